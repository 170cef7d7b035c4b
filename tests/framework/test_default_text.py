"""The text that needs no download."""

from __future__ import annotations

from pydoc_data.topics import topics

from billhook.default_text import EVALUATION_SHARE, default_text

PARTS = {part: default_text(part) for part in ("calibration", "evaluation")}


def test_no_topic_is_in_both_parts() -> None:
    calibration = [name for name, text in topics.items() if text in PARTS["calibration"]]
    evaluation = [name for name, text in topics.items() if text in PARTS["evaluation"]]
    assert not set(calibration) & set(evaluation)
    assert set(calibration) | set(evaluation) == set(topics)


def test_the_parts_hold_everything_once() -> None:
    assert sum(map(len, PARTS.values())) == sum(map(len, topics.values())) + 2 * (len(topics) - 2)


def test_the_evaluation_part_has_its_share_of_the_topics() -> None:
    count = sum(text in PARTS["evaluation"] for text in topics.values())
    assert count == round(EVALUATION_SHARE * len(topics))


def test_there_is_enough_to_calibrate_on() -> None:
    # 128 rows of 512 tokens at about four characters a token, the default of Calibration
    assert len(PARTS["calibration"]) > 128 * 512 * 4
