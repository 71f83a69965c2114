"""Running a recipe: its missing supervisors are trained, then its study is fitted, data set by data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from w2s_fast.backbones.weak import read_card
from w2s_fast.core.errors import ModelError, UsageError
from w2s_fast.core.paths import cache_root
from w2s_fast.data import canonical, open_manifest
from w2s_fast.extract.plan import kept_supervisors
from w2s_fast.finetune.supervisors import recipe_of, train_supervisors
from w2s_fast.methods.resolve import unverified
from w2s_fast.recipes.places import placed, unplaced
from w2s_fast.recipes.recipe import Recipe
from w2s_fast.recipes.tables import by_group, tables_of
from w2s_fast.results.results import Results
from w2s_fast.results.summary import Table
from w2s_fast.studies.study import Study
from w2s_fast.tasks.task import Say

OnProgress = Callable[[str, int, int], None]
OF_RUN = ("model", "seeds")
"""Keys of a recipe's supervisor that are not those of a weak recipe."""
UNTRAINED = "drawn:clip"
"""Stands for supervisors that are yet to be trained where a study is checked: it is none, and is always there."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recipe at one scale, its names resolved; it is checked and fitted as a `Study` is."""

    recipe: Recipe
    scale: str
    root: Path | None = None
    cache: Path | None = None
    device: str = "auto"
    left_out: tuple[str, ...] = ()

    @staticmethod
    def of(
        recipe: Recipe,
        *,
        scale: str,
        root: Path | None = None,
        only: tuple[str, ...] = (),
        cache: Path | None = None,
        device: str = "auto",
    ) -> Plan:
        """The plan for some columns (all without `only`); errors are those of `places.placed`."""
        found, left_out = placed(recipe.only(only, scale=scale), scale=scale, root=root)
        return Plan(recipe=found, scale=scale, root=root, cache=cache, device=device, left_out=tuple(left_out))

    @property
    def study(self) -> Study:
        """What is studied."""
        return self.recipe.scale(self.scale).sweep.study(cache=self.cache, device=self.device)

    def arguments(self, *, seeds: Any = None) -> dict[str, Any]:
        """What `fit` is asked for; `seeds` in place of the recipe's."""
        given = self.recipe.scale(self.scale).sweep.arguments(device=self.device)
        return given if seeds is None else {**given, "seeds": seeds}

    def check(self, **arguments: Any) -> None:
        """Refuse at once what could not be fitted; supervisors that the recipe trains itself need not be there yet."""
        study = self.study
        others = tuple(name for name in study.weak if self._own(name) is None)
        replace(study, weak=others or (UNTRAINED,)).check(**arguments)

    def fit(self, *, say: Say, on_progress: OnProgress | None = None, **arguments: Any) -> Iterator[Results]:
        """The results of each task, after the supervisors of its data set; see `Study.fit`."""
        for remark in self.left_out:
            say(remark)
        for data in self.study.sets():
            try:
                self.supervise(data, say=say, on_progress=on_progress)
                yield from replace(self.study, data=(data,)).fit(say=say, on_progress=on_progress, **arguments)
            except ModelError as error:
                model = next((m for m in self._fetched() if m in str(error)), None)
                raise (error if model is None else unplaced(error, self.recipe, model, self.root)) from None

    def supervise(self, data: str, *, say: Say, on_progress: OnProgress | None = None) -> None:
        """Train those of the recipe's supervisors that this data set does not have yet.

        One of the same name that was trained otherwise is a `UsageError`.
        """
        name_of_data = canonical(data)
        study = self.study
        named: dict[str, Any] = {"root": study.root, "identity": study.identity, "class_names": study.class_names}
        manifest = open_manifest(name_of_data, cache=cache_root(self.cache), **named)
        for name in dict.fromkeys(filter(None, map(self._own, (*study.strong, *study.weak)))):
            table = self.recipe.supervisors[name]
            wanted = {key: value for key, value in table.items() if key not in OF_RUN}
            there = kept_supervisors(name, manifest, data=name_of_data, cache=self.cache)
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
                device=self.device,
                cache=self.cache,
                on_progress=on_progress,
                **named,
            ):
                say(f"{record['name']} on {data}: {record['acc_pool']:.1%} on the pool, {record['seconds']:.0f} s")

    def _own(self, model: str) -> str | None:
        """The recipe's supervisor that a model's name stands for, or None."""
        library, _, rest = model.partition(":")
        name = rest.partition("/")[0]
        return name if library == "weak" and name in self.recipe.supervisors else None

    def _fetched(self) -> list[str]:
        """Models whose weights come from elsewhere."""
        study = self.study
        trained = [str(table["model"]) for table in self.recipe.supervisors.values()]
        return [m for m in (*study.strong, *study.weak, *trained) if not m.startswith(("weak:", "drawn:"))]

    def tables(self, results: Results, *, selection: str | None = None) -> list[Table]:
        """Ours beside the paper's: one long table, or the matrices of a recipe that is a matrix.

        selection: default the recipe's, which is the paper's.
        """
        selection = selection or self.recipe.selection
        systems = by_group(results, selection=selection)
        doubtful = unverified(results.rows)
        return tables_of(self.recipe, self.scale, results.rows, systems, selection=selection, unverified=doubtful)


def _check_card(name: str, card: Mapping[str, Any], model: str, wanted: Mapping[str, Any], recipe: str) -> None:
    """Refuse a supervisor of the recipe's name that was trained otherwise."""
    expected = asdict(recipe_of(model, wanted))
    if card["arch"].partition("@")[0].rstrip("/") != model.partition("@")[0].rstrip("/"):
        raise UsageError(
            f"{name} was trained from {card['arch']}, and {recipe} wants {model}; rename the one in the cache"
        )
    for key, value in expected.items():
        if card["recipe"].get(key) != value:
            raise UsageError(
                f"{name} was trained with {key}={card['recipe'].get(key)!r}, and {recipe} wants {value!r}; remove or "
                f"rename it in the cache, and it is trained anew"
            )
