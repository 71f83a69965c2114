"""`w2s-fast weak` remakes a shipped supervisor: same D_train, same recipe, and an accuracy within its own noise."""

from pathlib import Path

import pytest

import w2s_fast as w2s
from w2s_fast.backbones.embedded import shipped_card, shipped_seeds
from w2s_fast.backbones.weak import read_card
from w2s_fast.finetune.weak import DRAWN, training_of_card


@pytest.mark.slow
def test_a_shipped_supervisor_is_remade(tmp_path: Path) -> None:
    [record] = w2s.train_supervisors(["drawn:quickdraw"], model="drawn:cnn", name="again", cache=tmp_path)
    made, shipped = read_card(record["directory"]), shipped_card("drawn:quickdraw", 0)
    for same in ("arch", "classes", "data", "seed", "preprocess", "d_train_digest"):
        assert made[same] == shipped[same], same
    assert training_of_card(made["recipe"]) == training_of_card(shipped["recipe"]) == DRAWN
    # on another machine rounding differs from the first step on; 4,000 images give a standard error of 0.8 points
    assert made["acc"]["pool"] == pytest.approx(shipped["acc"]["pool"], abs=0.05)
    assert made["acc"]["train"] == pytest.approx(1.0, abs=0.01)


def test_five_seeds_ship_for_every_domain_in_under_100_kb_each() -> None:
    from w2s_fast.backbones.embedded import ASSETS, CNN
    from w2s_fast.data.drawn import DOMAINS

    files = sorted((ASSETS / CNN).glob("*.safetensors"))
    assert len(files) == 5 * len(DOMAINS) and max(f.stat().st_size for f in files) < 100_000
    for domain in DOMAINS:
        assert shipped_seeds(f"drawn:{domain}") == (0, 1, 2, 3, 4)
        assert shipped_card(f"drawn:{domain}", 3)["command"].startswith("w2s-fast weak --data")
