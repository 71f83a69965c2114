"""Whole networks, weak teacher to strong student: the runs of one data set, their ceiling, and their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from w2s_fast.backbones import open_encoder
from w2s_fast.backbones.device import pick_device
from w2s_fast.backbones.students import new_module
from w2s_fast.core.errors import UsageError
from w2s_fast.core.hashing import digest_ids, digest_json
from w2s_fast.core.paths import cache_root
from w2s_fast.core.specs import parse
from w2s_fast.data import canonical, open_manifest
from w2s_fast.data.splits import Split
from w2s_fast.finetune.augment import MIXES
from w2s_fast.finetune.distributed import World, join
from w2s_fast.finetune.fit import NetworkFit, fit_network
from w2s_fast.finetune.images import Images, Pixels, open_images
from w2s_fast.finetune.loop import Evaluated
from w2s_fast.finetune.teachers import LiveTeacher, Teacher, TeacherBank, adapted, columns_of, make_bank
from w2s_fast.finetune.training import Training
from w2s_fast.results.outcome import Outcome, Question
from w2s_fast.results.results import Results
from w2s_fast.results.scoring import score
from w2s_fast.tasks import supervisors
from w2s_fast.tasks.task import Task

OnProgress = Callable[[str, int, int], None]
PROTOCOLS = ("pool", "official")
BANK_SEED = 1_000_003


@dataclass(frozen=True, kw_only=True)
class NetworkMethod:
    """One kind of run: a loss, the weight of ground truth, and what else differs from the study's training."""

    loss: str
    gt: float = 1.0
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])
    label: str | None = None

    @property
    def name(self) -> str:
        """How tables show it."""
        if self.label is not None:
            return self.label
        return f"{self.loss}+gt" if self.gt > 0 and self.loss != "none" else self.loss


@dataclass(frozen=True, kw_only=True)
class NetworkStudy:
    """A weak teacher and a strong student on one data set.

    protocol: `pool` trains students on hold-train, which the teacher never saw, as heads are; `official` on D_train,
    like the teacher, and tests on all of the pool, as the CIFAR tables do (a tenth of D_train is hold-val there).
    bank: views of each image whose teacher logits are computed once for all runs; 0 lets the teacher run along.
    """

    data: str
    student: str
    teacher: str
    methods: Sequence[NetworkMethod]
    training: Training
    seeds: Sequence[int] = (0,)
    protocol: str = "pool"
    split: str = "rotate"
    bank: int = 0
    pretrained: bool = True
    class_names: str | Path | None = None
    root: str | Path | None = None
    identity: str = "content"
    device: str = "auto"
    cache: str | Path | None = None
    folder: Path = Path("w2s_runs/networks")

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise UsageError(f"protocol {self.protocol!r} is none of {', '.join(PROTOCOLS)}")
        if self.bank and any(name in self.training.augment for name in MIXES):
            raise UsageError(
                "a teacher bank holds views of single images; leave out mixing, or let the teacher run along"
            )

    def run(
        self,
        *,
        say: Callable[[str], None] = lambda _: None,
        on_progress: OnProgress | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Results:
        """Train every method and the ceiling for every seed and weak seed, and score them.

        Runs that are done are read from `folder`, one that was interrupted goes on. Stops early where `stopped` says.
        """
        opened = _Opened(study=self)
        outcomes: list[Outcome] = []
        for one in opened.outcomes(say, on_progress, stopped):
            outcomes.append(one)
        return score(opened.task, outcomes, mode=self.split, device=opened.device)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Opened:
    """A study with its data, teachers and images at hand."""

    study: NetworkStudy

    @cached_property
    def device(self) -> str:
        return pick_device(self.study.device)

    @cached_property
    def data(self) -> str:
        return canonical(self.study.data)

    @cached_property
    def manifest(self) -> Any:
        s = self.study
        return open_manifest(
            self.data,
            root=None if s.root is None else Path(s.root),
            identity=s.identity,
            class_names=None if s.class_names is None else Path(s.class_names),
            cache=cache_root(s.cache),
        )

    @cached_property
    def teachers(self) -> dict[int, str]:
        return supervisors.of(self.study.teacher, self.manifest, data=self.data, cache=self.study.cache)

    @cached_property
    def preprocessing(self) -> tuple[dict[str, Any], Pixels]:
        _, described, prepare = self._new(0)
        return described, Pixels.of(prepare, described)

    @cached_property
    def images(self) -> Images:
        return open_images(self.manifest, np.arange(len(self.manifest)), self.preprocessing[1], what="the data set")

    @cached_property
    def task(self) -> Task:
        """The task as scoring reads it; networks have no features."""
        weak = {seed: self._weak_logits(seed) for seed in self.teachers}
        return Task(
            manifest=self.manifest,
            features=torch.zeros(len(self.manifest), 1),
            weak_logits=weak,
            text=None,
            data=self.data,
            weak=self.study.teacher,
            strong=self.study.student,
            paired=supervisors.is_supervisor(self.study.teacher) and len(self.teachers) > 1,
            keys={"weak": {seed: self._live(seed)[1] for seed in self.teachers}},
            weak_models=self.teachers,
        )

    def outcomes(
        self, say: Callable[[str], None], on_progress: OnProgress | None, stopped: Callable[[], bool]
    ) -> Iterator[Outcome]:
        s = self.study
        world = join()
        for seed in s.seeds:
            split = self._split(seed)
            ceiling = NetworkMethod(loss="none", gt=1.0)
            done = self._run(ceiling, seed, None, split, world, on_progress, stopped)
            if done is None:
                return
            yield done
            for _, weak_seed in self.task.pairs([seed]):
                for method in s.methods:
                    if method.loss == "none":
                        continue
                    done = self._run(method, seed, weak_seed, split, world, on_progress, stopped)
                    if done is None:
                        return
                    yield done
                    test = done.curves["acc_test"][-1]
                    say(f"{method.name}, seed {seed}: {test:.1%} on the test part, {done.seconds['total']:.0f} s")

    def _run(
        self,
        method: NetworkMethod,
        seed: int,
        weak_seed: int | None,
        split: Split,
        world: World,
        on_progress: OnProgress | None,
        stopped: Callable[[], bool],
    ) -> Outcome | None:
        s = self.study
        training = replace(s.training, **{"loss": method.loss, "gt": method.gt, **method.more})
        weak = self._agreement_seed(seed) if weak_seed is None else weak_seed
        model, described, _ = self._new(seed)
        train = self.images.part(split.train)
        teacher = None if weak_seed is None else self._teacher(weak_seed, train, training)
        _, weak_key = self._live(weak)
        asked: dict[str, Any] = {
            "student": s.student,
            "pretrained": s.pretrained,
            "preprocess": described,
            "protocol": s.protocol,
            "split": s.split,
            "bank": s.bank if weak_seed is not None else 0,
            "truth_digest": self.manifest.truth_digest,
            **asdict(training),
        }
        # the length decides what a step does, so that a run is known by it too
        folder = s.folder / digest_json([asked, seed, weak_seed, weak_key, split.digest])[:16]
        label = f"{self.manifest.name}: {method.name} seed {seed}"
        weak_labels = self.task.weak_logits[weak].argmax(1).numpy()
        fit = fit_network(
            model,
            train.views(training.augment, device=self.device),
            train.labels if training.gt > 0 else None,
            training=training,
            seed=seed,
            k=len(self.manifest.classes),
            teacher=teacher,
            teacher_score=self._accuracy(weak_labels, split.val),
            evaluate=self._evaluation(split, weak_labels),
            folder=folder,
            question={"network": digest_json(asked), "weak": weak_key, "split": split.digest},
            device=self.device,
            world=world,
            stopped=stopped,
            progress=None if on_progress is None else lambda done, total, _: on_progress(label, done, total),
        )
        if fit.status == "stopped":
            return None
        if world.first:
            _save(model, folder)
        return self._outcome(method, training, fit, seed, weak_seed, split, asked, weak_key, len(train.rows))

    def _outcome(
        self,
        method: NetworkMethod,
        training: Training,
        fit: NetworkFit,
        seed: int,
        weak_seed: int | None,
        split: Split,
        asked: dict[str, Any],
        weak_key: str,
        n_train: int,
    ) -> Outcome:
        own = {
            k: v for k, v in asdict(training).items() if k not in ("loss", "gt", "loss_weight", "loss_warmup", "until")
        }
        epochs = len(fit.curves["loss"]) - 1
        return Outcome(
            domain=self.task.domain,
            method="from scratch" if weak_seed is None else method.name,
            head="network",
            loss=parse(method.loss).name,
            loss_resolved=method.loss,
            supervision="gt" if weak_seed is None else "weak",
            question=Question(fields=asked),
            split=split,
            seed=seed,
            weak_seed=weak_seed,
            status=fit.status,
            predicted={selection: parts["test"] for selection, parts in fit.predicted.items()},
            selected_epoch=fit.epoch,
            curves=fit.curves,
            seconds={"train": fit.seconds, "total": fit.seconds},
            resolved={
                "init": "pretrained"
                if self.study.pretrained and not self.study.student.startswith("cifar:")
                else "own",
                "n_train": n_train,
                "optimizer": training.optimizer,
                "schedule": training.schedule,
                "lr": training.lr,
                "weight_decay": training.weight_decay,
                "epochs": epochs,
                "batch_size": training.batch_of(n_train),
                "precision": fit.precision,
            },
            ceiling=weak_seed is None,
            ceiling_key=digest_json([self.study.student, self.study.pretrained, own])[:16],
            reads_truth=training.gt > 0,
            notes=fit.notes,
            weak_key=None if weak_seed is None else weak_key,
        )

    def _new(self, seed: int) -> Any:
        s = self.study
        return new_module(s.student, len(self.manifest.classes), seed=seed, pretrained=s.pretrained)

    def _agreement_seed(self, seed: int) -> int:
        return self.task.pairs([seed])[0][1]

    @cached_property
    def _known(self) -> dict[int, tuple[LiveTeacher, str]]:
        return {}

    def _live(self, weak_seed: int) -> tuple[LiveTeacher, str]:
        """The teacher of a weak seed, and the digest of its weights."""
        if weak_seed not in self._known:
            name = self.teachers[weak_seed]
            encoder = open_encoder(name, data=self.data, cache=self.study.cache, device=self.device)
            if encoder.classes is None:
                raise UsageError(f"teacher {name} has no class names; train one with: w2s-fast weak --data {self.data}")
            side = int(self.images.views().plain(np.arange(1)).shape[-1])
            live = LiveTeacher(
                module=encoder.module,
                columns=columns_of(encoder.classes, self.manifest.classes, name=name),
                adapt=adapted(encoder.preprocess, self.images.pixels, side),
            )
            self._known[weak_seed] = (live, str(encoder.weights_digest))
        return self._known[weak_seed]

    def _weak_logits(self, weak_seed: int) -> Tensor:
        """The teacher's logits f[N, k] on the images as they are; rows that cannot be read are zeros."""
        live, _ = self._live(weak_seed)
        bank = make_bank(live, self.images.views("none", device=self.device), 1, seed=0)
        found = torch.zeros(len(self.manifest), len(self.manifest.classes))
        found[torch.from_numpy(self.images.rows)] = bank.table[0]
        return found

    def _teacher(self, weak_seed: int, train: Images, training: Training) -> Teacher:
        live, key = self._live(weak_seed)
        if not self.study.bank:
            return live
        views = self.images.views(training.augment, device=self.device)
        table = _bank(self.study, live, views, key, digest_ids(self.images.ids), training.augment)
        place = {row: number for number, row in enumerate(self.images.rows.tolist())}
        return TeacherBank(table=table[:, [place[row] for row in train.rows.tolist()]], seed=BANK_SEED)

    def _split(self, seed: int) -> Split:
        found = self.task.splits(mode=self.study.split, seed=seed)
        if self.study.protocol == "pool":
            return found
        if not len(found.weak_train):
            raise UsageError(f"protocol official: {self.manifest.name} has no training images; give protocol=pool")
        order = np.random.default_rng([seed, 7]).permutation(len(found.weak_train))
        held = len(order) // 10
        parts = {
            "train": np.sort(found.weak_train[order[held:]]),
            "val": np.sort(found.weak_train[order[:held]]),
            "test": np.sort(found.pool),
        }
        ids = {name: digest_ids(self.manifest.ids[r] for r in rows) for name, rows in parts.items()}
        return replace(found, **parts, digest=digest_json({"protocol": "official", **ids}))

    def _accuracy(self, labels: np.ndarray, rows: np.ndarray) -> float:
        return float((labels[rows] == self.manifest.labels[rows]).mean())

    def _evaluation(self, split: Split, weak: np.ndarray) -> Callable[[nn.Module], Evaluated]:
        views = self.images.views("none", device=self.device)
        place = {row: number for number, row in enumerate(self.images.rows.tolist())}
        truth = self.manifest.labels

        def evaluate(model: nn.Module) -> Evaluated:
            predicted: dict[str, np.ndarray] = {}
            for part, rows in (("val", split.val), ("test", split.test)):
                found = np.full(len(rows), -1, np.int64)
                known = np.flatnonzero([row in place for row in rows.tolist()])
                for some in np.split(known, np.arange(256, len(known), 256)):
                    at = np.array([place[row] for row in rows[some].tolist()], np.int64)
                    found[some] = model(views.plain(at)).argmax(1).cpu().numpy()
                predicted[part] = found
            val, test = predicted["val"], predicted["test"]
            scores = {
                "agree_val": float((val == weak[split.val]).mean()),
                "acc_val": float((val == truth[split.val]).mean()),
                "acc_test": float((test == truth[split.test]).mean()),
            }
            return Evaluated(predicted=predicted, scores=scores)

        return evaluate


def _bank(study: NetworkStudy, live: LiveTeacher, views: Any, weak_key: str, ids: str, augment: str) -> Tensor:
    """The table of a teacher bank, from the cache where it was computed before."""
    from w2s_fast.finetune import state

    key = digest_json([weak_key, ids, augment, study.bank, study.student, BANK_SEED])[:32]
    folder = cache_root(study.cache) / "teacher_banks" / key
    found = state.read_state(folder)
    if found is None:
        table = make_bank(live, views, study.bank, seed=BANK_SEED).table
        state.write_state(folder, {"logits": table}, {"weak": weak_key, "augment": augment, "views": study.bank})
        return table
    return found[0]["logits"]


def _save(model: nn.Module, folder: Path) -> None:
    """The network of the last epoch, for `LIBRARY:NAME/@FILE`."""
    from safetensors.torch import save_file

    fresh = folder / ".last.tmp"
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}, fresh)
    fresh.replace(folder / "last.safetensors")
