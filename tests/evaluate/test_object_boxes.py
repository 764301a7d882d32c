"""Where objects are, what crop and masks hide of them, and that no image is lost in the join."""

from __future__ import annotations

from dataclasses import replace
from math import comb
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.tv_tensors import BoundingBoxes
from toys import toy as model

from tttlib import data, evaluate, results, ttt
from tttlib.boxes import Annotation, area_ratio, through
from tttlib.data import ImageSet
from tttlib.tables import size_tables


def boxed(*boxes: list[float]) -> ImageSet:
    dataset = data.load("scenes", "test", n=len(boxes))
    return replace(dataset, boxes=torch.tensor(boxes))


def test_geometry_by_hand() -> None:
    found = evaluate.object_geometry(boxed([0, 0, 16, 8], [12, 12, 20, 20], [5, 5, 5, 9]))
    first, middle, none = (found.iloc[i] for i in range(3))
    assert first["area"] == first["area_original"] == 0.125
    assert first["aspect"] == 2 and first["cut"] == 0 and first["objects"] == 1
    assert first["centre_distance"] == pytest.approx(np.hypot(8, 12) / np.hypot(16, 16))
    assert middle["centre_distance"] == 0 and middle["has_box"]
    assert not none["has_box"] and none[["area", "aspect", "centre_distance"]].isna().all()
    assert evaluate.coverage(found).iloc[0].to_dict() == {
        "images": 3,
        "with box": 2,
        "without box": 1,
        "cut by the crop": 0,
        "several objects": 0,
    }


def annotation(width: int, height: int, *boxes: list[float]) -> Annotation:
    found = BoundingBoxes(torch.tensor(boxes), format="XYXY", canvas_size=(height, width))
    return Annotation("x", width, height, found, ("n",) * len(boxes))


def test_original_image_and_crop_are_told_apart() -> None:
    one = annotation(512, 256, [0, 0, 200, 256], [250, 100, 300, 150])
    seen, visible = through(one.boxes, "resize256-bicubic")
    dataset = data.load("scenes", "test", n=1)
    dataset = replace(
        dataset,
        images=torch.zeros(1, 3, 224, 224, dtype=torch.uint8),
        boxes=torch.as_tensor(seen)[:1],
    )
    found = evaluate.object_geometry(dataset, [one]).iloc[0]
    assert found["area_original"] == pytest.approx(200 * 256 / (512 * 256))
    assert found["area"] == pytest.approx(float(area_ratio(seen, 224, 224)[0]))
    assert found["cut"] == pytest.approx(1 - float(visible[0])) and found["cut"] > 0.5
    assert found["objects"] == 2
    assert found["area_union"] == pytest.approx((200 * 256 + 50 * 50) / (512 * 256))
    ratios = evaluate.object_ratios(dataset, [one])
    assert ratios["ratio"].tolist() == pytest.approx([200 / 512, 2500 / (512 * 256)])
    assert (ratios["label"] == int(dataset.labels[0])).all()
    with pytest.raises(ValueError, match="1 images but 2 annotations"):
        evaluate.object_geometry(dataset, [one, one])


def test_a_set_without_boxes_is_refused() -> None:
    dataset = replace(data.load("scenes", "test", n=2), boxes=None)
    with pytest.raises(ValueError, match="has no boxes"):
        evaluate.object_geometry(dataset)
    with pytest.raises(ValueError, match="has no boxes"):
        evaluate.hidden_by_masks(model(), dataset, steps=1, batch_size=1)
    assert evaluate.annotations_of(dataset) is None


def test_patch_shares_number_patches_as_the_network_does() -> None:
    shares = evaluate.patch_shares(torch.tensor([[6.0, 0, 10, 8], [0, 0, 32, 32]]), 32, 8)
    assert shares[0, :2].tolist() == [0.5, 0.5] and shares[0, 2:].sum() == 0
    np.testing.assert_allclose(shares[1], 1 / 16)
    below = evaluate.patch_shares(torch.tensor([[0.0, 8, 8, 16]]), 32, 8)
    patches = model().patchify(torch.arange(32.0)[None, None, :, None].expand(1, 3, 32, 32))
    assert int(below.argmax()) == 4 and patches[0, 4].min() == 8  # the second row of patches


def test_hidden_is_what_the_masks_of_ttt_hide() -> None:
    dataset, net = boxed([0, 0, 8, 8], [0, 0, 32, 32], [4, 4, 12, 8]), model()
    how = {"steps": 3, "batch_size": 5}
    found = evaluate.hidden_by_masks(net, dataset, seed=3, **how, lr=0.1)
    visible = net.num_visible(0.75)
    masks = ttt.mask_orders(net, 3, 5, 3, int(dataset.ids[0]))[..., :visible]
    alone = float((masks != 0).all(-1).double().mean())  # patch 0 is not among the visible
    assert found.loc[0, ["hidden", "unseen"]].tolist() == pytest.approx([alone, alone])
    assert found.loc[1, "hidden"] == pytest.approx(0.75) and found.loc[1, "unseen"] == 0
    assert found["touched"].tolist() == [1, 16, 2]
    many = evaluate.hidden_by_masks(net, dataset, steps=20, batch_size=50)
    assert many.loc[2, "unseen_expected"] == pytest.approx(comb(14, 4) / comb(16, 4))
    expected = many[["hidden_expected", "unseen_expected"]].to_numpy()
    np.testing.assert_allclose(many[["hidden", "unseen"]].to_numpy(), expected, atol=0.05)


def test_join_keeps_every_row_and_refuses_strangers() -> None:
    objects = evaluate.object_geometry(boxed([0, 0, 16, 8], [5, 5, 5, 9]))
    rows = pd.DataFrame({"id": [0, 1, 0], "correct": [True, False, False]})
    joined = evaluate.with_objects(rows, objects)
    assert len(joined) == 3 and joined["has_box"].tolist() == [True, False, True]
    with pytest.raises(ValueError, match="image 7 has no row"):
        evaluate.with_objects(rows.assign(id=7), objects)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageSet, pd.DataFrame]:
    dataset, store = data.load("scenes", "test", n=8), results.Store(tmp_path_factory.mktemp("r"))
    rows = [
        evaluate.test_time_training(
            model(), dataset, ["clean", "contrast"], store=store, severity=s, progress=False,
            steps=3, batch_size=2, lr=3.0, evaluate_at=(0, 3),
        )
        for s in (2, 5)
    ]  # fmt: skip
    return dataset, pd.concat(rows, ignore_index=True)


def test_pairs_stand_side_by_side(ran: tuple[ImageSet, pd.DataFrame]) -> None:
    _, rows = ran
    pairs = evaluate.before_after(rows)
    assert len(pairs) == (1 + 2) * 8 and pairs["gain"].isin([-1, 0, 1]).all()
    one = pairs.iloc[11]
    mine = rows[
        (rows[["id", "domain", "severity"]] == one[["id", "domain", "severity"]]).all(axis=1)
    ]
    mine = mine.set_index("step")
    assert (one["before"], one["after"]) == (mine.loc[0, "correct"], mine.loc[3, "correct"])
    assert one["answer_after"] == mine.loc[3, "prediction"]
    with pytest.raises(ValueError, match="step 3"):
        evaluate.before_after(rows.drop(rows.index[rows["step"] == 3][-1]))
    with pytest.raises(ValueError, match="twice"):
        evaluate.before_after(pd.concat([rows, rows]))


def test_examples_are_the_changed_ones(ran: tuple[ImageSet, pd.DataFrame]) -> None:
    dataset, rows = ran
    pairs = evaluate.before_after(rows)
    pairs["gain"] = 0
    assert len(evaluate.examples(dataset, pairs)["images"]) == 0
    contrast = (pairs["domain"] == "contrast") & (pairs["severity"] == 5)
    pairs.loc[contrast, "gain"] = [-1, -1, -1, -1, -1, -1, 1, 1]
    found = evaluate.examples(dataset, pairs, n=5)
    assert found["kinds"] == ["right to wrong"] * 3 + ["wrong to right"] * 2
    assert found["images"].shape == (5, 3, 32, 32) and found["titles"][0].endswith("contrast 5")
    last = int(dataset.labels[5])
    first = evaluate.examples(dataset, pairs, n=5, labels=[last])
    position = int((dataset.labels[:6] == last).nonzero()[0])
    torch.testing.assert_close(first["boxes"][0], dataset.boxes[position])


def test_objects_are_chosen_by_size_and_outcome(ran: tuple[ImageSet, pd.DataFrame]) -> None:
    dataset, rows = ran
    pairs = evaluate.before_after(rows[(rows["domain"] == "contrast") & (rows["severity"] == 5)])
    pairs = pairs.assign(area=[0.8, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], before=False)
    pairs["after"] = [True] * 6 + [False] * 2
    every = evaluate.objects_of(dataset, pairs, outcome="mended")
    assert (
        every["heading"] == "mended: 6 of 8 answers to objects of 10 to 80 % of the image, 6 shown"
    )
    assert [title[-4:] for title in every["titles"]] == [
        "10 %",
        "20 %",
        "30 %",
        "40 %",
        "50 %",
        "80 %",
    ]
    some = evaluate.objects_of(dataset, pairs, size=(0, 50), outcome="mended", n=2)
    assert [title[-4:] for title in some["titles"]] == ["10 %", "40 %"]
    places = [dataset.ids.tolist().index(pairs["id"].iloc[k]) for k in (1, 4)]
    torch.testing.assert_close(some["boxes"], dataset.boxes[places])
    truth = dataset.classes[int(dataset.labels[places[0]])]
    assert some["titles"][0].splitlines()[1:] == ["contrast 5", f"{truth}, 10 %"]
    none = evaluate.objects_of(dataset, pairs, outcome="kept")
    assert len(none["images"]) == 0 and none["heading"].startswith("kept: 0 of 8 ")
    with pytest.raises(ValueError, match="unknown outcome 'best'; known are kept, mended"):
        evaluate.objects_of(dataset, pairs, outcome="best")


def simulated(n: int = 400, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Large objects are right more often; class 3 is hurt; size and class are independent."""
    rng = np.random.default_rng(seed)
    area, label = rng.random(n), np.arange(n) % 5
    parts = []
    for domain in ("contrast", "pixelate"):
        before = rng.random(n) < 0.2 + 0.6 * area
        after = before & ~((label == 3) & (rng.random(n) < 0.6))
        parts.append(
            pd.DataFrame(
                {"id": np.arange(n), "label": label, "class": [f"c{i}" for i in label],
                 "domain": domain, "severity": 5.0, "area": area, "place": np.arange(n) % 7,
                 "before": before, "after": after, "gain": after.astype(int) - before.astype(int)}
            )
        )  # fmt: skip
    ratios = pd.DataFrame({"label": label, "ratio": area})
    return pd.concat(parts, ignore_index=True), ratios


def test_tables_find_what_was_put_in(tmp_path: Path) -> None:
    pairs, ratios = simulated()
    classes = size_tables.per_class(pairs, ratios)
    assert classes["objects"].eq(80).all() and classes["n"].eq(160).all()
    mine = pairs[pairs["label"] == 2]
    assert classes.loc[2, "before"] == pytest.approx(mine["before"].mean())
    area = ratios.loc[ratios["label"] == 2, "ratio"]
    assert classes.loc[2, "area_variance"] == pytest.approx(area.var())
    assert classes.loc[3, "gain_high"] < 0

    relations = size_tables.class_relations(classes)
    assert len(relations) == 12 and relations["p_holm"].ge(relations["p"]).all()
    single = size_tables.image_relations(pairs, ["area"])
    found = single.set_index(["outcome", "method"]).loc[("before", "pearson")]
    assert 0.2 < found["low"] < found["r"] < 0.5 and found["n"] == 800
    assert found["effective_n"] < 800

    bins = size_tables.by_bin(pairs, bins=10)
    assert len(bins) == 10 and bins["images"].eq(40).all()
    assert bins.loc[9, "before"] > bins.loc[0, "before"] + 0.3
    odds = size_tables.regressions(pairs, ["area", "severity"])
    odds = odds.set_index(["outcome", "term"])
    assert odds.loc[("before", "area"), "odds_low"] > 1.3
    assert odds.loc[("after", "severity"), "note"] == "constant"
    power = size_tables.power_note(classes, single, bins, pairs)
    assert power["smallest effect"].notna().all()
    assert size_tables.overall(pairs)["n"].tolist() == [400, 400]


def test_claims_follow_the_tables() -> None:
    from tttlib import statistics

    pairs, ratios = simulated()
    relations = size_tables.class_relations(size_tables.per_class(pairs, ratios))
    single = size_tables.image_relations(pairs, ["area"])
    by_class = statistics.class_intervals(pairs["gain"], pairs["label"], pairs["id"])
    accuracy, gain = size_tables.of_images(single, 0.1)
    lowest = size_tables.of_lowest(by_class)
    found = [size_tables.of_classes(relations, 0.1), accuracy, gain, lowest]
    verdicts = {one.claim: one.verdict for one in found}
    assert verdicts["size does not explain accuracy: class means"] == "undecided"
    assert verdicts["size does not explain accuracy: single images"] == "contradicted"
    assert verdicts["some classes do not gain (are hurt)"] == "supported"
    assert gain.measure == "Pearson r of area and gain"
    rising = size_tables.of_direction(accuracy)
    assert (rising.estimate, rising.expected) == (accuracy.estimate, "above")
    assert rising.verdict == ("supported" if accuracy.low > 0 else "contradicted")


def test_blocks_are_clusters_within_classes() -> None:
    pairs, _ = simulated(40)
    pairs["digit"] = pairs["label"] * 100 + pairs["id"] % 2
    assert size_tables.class_blocks(pairs, ("place", "digit")).name == "digit"
    assert size_tables.class_blocks(pairs, ("place",)).name == "id"


def test_few_images_make_fewer_bins() -> None:
    pairs, _ = simulated(6)
    assert len(size_tables.by_bin(pairs, bins=10)) == 3
