import random

import pytest

from models.memory.batches import cut_into_batches


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_every_row_is_in_one_of_as_few_batches_as_there_can_be(rows: int) -> None:
    lengths = [(random.Random(seed).randint(1, 9), 6) for seed in range(50)]

    batches = cut_into_batches(lengths, rows)

    assert sorted(row for batch in batches for row in batch) == list(range(50))
    assert max(map(len, batches)) <= rows
    assert len(batches) == -(-50 // rows)


def test_rows_of_one_length_stay_together_and_only_the_leftovers_are_mixed() -> None:
    lengths = [(7, 2)] * 9 + [(5, 2)] * 5 + [(6, 2), (90, 2)]

    batches = cut_into_batches(lengths, 4)

    assert [sorted(lengths[row][0] for row in batch) for batch in batches] == [
        [5, 5, 5, 5],
        [7, 7, 7, 7],
        [7, 7, 7, 7],
        [5, 6, 7, 90],
    ]


def test_a_small_manifest_of_mixed_lengths_does_not_fall_apart() -> None:
    assert len(cut_into_batches([(length, 2) for length in range(8)], 8)) == 1


def test_rows_whose_negative_prompts_differ_in_length_are_of_different_lengths() -> None:
    assert cut_into_batches([(5, 2), (5, 3), (5, 2), (5, 3)], 2) == [[0, 2], [1, 3]]


def test_what_is_left_over_is_spread_evenly() -> None:
    assert list(map(len, cut_into_batches([(length, 2) for length in range(4)], 3))) == [2, 2]
    assert list(map(len, cut_into_batches([(length, 2) for length in range(7)], 3))) == [2, 2, 3]
