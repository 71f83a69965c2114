"""Running a recipe: its missing supervisors are trained, then its study is fitted, data set by data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from w2s_fast.backbones.weak import read_card
from w2s_fast.core.errors import ModelError, UsageError
from w2s_fast.data.manifest import Manifest
from w2s_fast.extract.plan import kept_supervisors
from w2s_fast.finetune.supervisors import train_supervisors
from w2s_fast.finetune.weak import training_of, training_of_card
from w2s_fast.methods.resolve import unverified
from w2s_fast.recipes.places import placed, unplaced
from w2s_fast.recipes.recipe import Recipe
from w2s_fast.recipes.tables import by_group, tables_of
from w2s_fast.results.results import Results
from w2s_fast.results.summary import Table
from w2s_fast.studies.experiment import Experiment
from w2s_fast.studies.study import Study
from w2s_fast.tasks.task import Say

OnProgress = Callable[[str, int, int], None]
OF_RUN = ("model", "seeds")
"""Keys of a recipe's supervisor that are not those of a weak recipe."""


@dataclass(frozen=True, kw_only=True)
class RecipeRun:
    """A recipe at one scale, its names resolved to an experiment; it is fitted as a `Study` is."""

    recipe: Recipe
    scale: str
    study: Study
    root: Path | None = None
    left_out: tuple[str, ...] = ()

    @staticmethod
    def of(
        recipe: Recipe,
        *,
        scale: str,
        root: Path | None = None,
        only: tuple[str, ...] = (),
        changes: Mapping[str, Any] | None = None,
        cache: Path | None = None,
        where: str = "",
    ) -> RecipeRun:
        """The run of some columns (all without `only`), with `changes` to the options that the recipe asks for.

        Supervisors that the recipe trains itself need not be there yet. Errors are those of `places.placed`,
        `Experiment.of` and `Study.of`.
        """
        found, left_out = placed(recipe.only(only, scale=scale), scale=scale, root=root)
        asked = Experiment.of(found.scale(scale).asked, cache=cache, where=recipe.name)
        asked = asked.amended(changes, where=where) if changes else asked
        own = [name for name in (*asked.models.strong, *asked.models.weak) if _own(found, name) is not None]
        study = Study.of(asked, untrained=own)
        return RecipeRun(recipe=found, scale=scale, study=study, root=root, left_out=tuple(left_out))

    @property
    def experiment(self) -> Experiment:
        """What is asked."""
        return self.study.experiment

    def fit(
        self,
        *,
        say: Say,
        on_progress: OnProgress | None = None,
        on_final: Callable[[Results], object] | None = None,
    ) -> Iterator[Results]:
        """The results of each task, after the supervisors of its data set; see `Study.fit`."""
        for remark in self.left_out:
            say(remark)

        def prepare(data: str, manifest: Manifest) -> None:
            self.supervise(data, manifest, say=say, on_progress=on_progress)

        try:
            yield from self.study.fit(say=say, on_progress=on_progress, on_final=on_final, prepare=prepare)
        except ModelError as error:
            model = next((m for m in self._fetched() if m in str(error)), None)
            raise (error if model is None else unplaced(error, self.recipe, model, self.root)) from None

    def supervise(self, data: str, manifest: Manifest, *, say: Say, on_progress: OnProgress | None = None) -> None:
        """Train those of the recipe's supervisors that this data set does not have yet.

        One of the same name that was trained otherwise is a `UsageError`.
        """
        asked = self.experiment
        models, cache = asked.models, asked.cache
        for name in dict.fromkeys(filter(None, (_own(self.recipe, m) for m in (*models.strong, *models.weak)))):
            table = self.recipe.supervisors[name]
            wanted = {key: value for key, value in table.items() if key not in OF_RUN}
            there = kept_supervisors(name, manifest, data=data, cache=cache)
            for seed, one in there.items():
                _check_card(f"weak:{name}/{seed}", read_card(one.directory), table["model"], wanted, self.recipe.name)
            seeds = [seed for seed in range(int(table.get("seeds", 1))) if seed not in there]
            if seeds:
                say(f"{data}: training weak:{name} on D_train ({table['model']}, weak seeds {seeds[0]}-{seeds[-1]})")
            for record in train_supervisors(
                [data],
                model=table["model"],
                name=name,
                seeds=seeds,
                recipe=wanted,
                root=asked.data.root,
                identity=asked.data.identity,
                class_names=asked.data.class_names,
                device=asked.compute.device,
                cache=cache,
                on_progress=on_progress,
            ):
                say(f"{record['name']} on {data}: {record['acc_pool']:.1%} on the pool, {record['seconds']:.0f} s")

    def _fetched(self) -> list[str]:
        """Models whose weights come from elsewhere."""
        models = self.experiment.models
        trained = [str(table["model"]) for table in self.recipe.supervisors.values()]
        return [m for m in (*models.strong, *models.weak, *trained) if not m.startswith(("weak:", "drawn:"))]

    def tables(self, results: Results, *, selection: str | None = None) -> list[Table]:
        """Ours beside the paper's: one long table, or the matrices of a recipe that is a matrix.

        selection: default the recipe's, which is the paper's.
        """
        selection = selection or self.recipe.selection
        systems = by_group(results, selection=selection)
        doubtful = unverified(results.rows)
        return tables_of(self.recipe, self.scale, results.rows, systems, selection=selection, unverified=doubtful)


def _own(recipe: Recipe, model: str) -> str | None:
    """The recipe's supervisor that a model's name stands for, or None."""
    library, _, rest = model.partition(":")
    name = rest.partition("/")[0]
    return name if library == "weak" and name in recipe.supervisors else None


def _check_card(name: str, card: Mapping[str, Any], model: str, wanted: Mapping[str, Any], recipe: str) -> None:
    """Refuse a supervisor of the recipe's name that was trained otherwise."""
    expected, made = asdict(training_of(model, wanted)), asdict(training_of_card(card["recipe"]))
    if card["arch"].partition("@")[0].rstrip("/") != model.partition("@")[0].rstrip("/"):
        raise UsageError(
            f"{name} was trained from {card['arch']}, and {recipe} wants {model}; rename the one in the cache"
        )
    for key, value in expected.items():
        if made[key] != value:
            raise UsageError(
                f"{name} was trained with {key}={made[key]!r}, and {recipe} wants {value!r}; remove or "
                f"rename it in the cache, and it is trained anew"
            )
