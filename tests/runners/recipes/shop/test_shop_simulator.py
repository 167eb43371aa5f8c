"""The simulated shop: the same seed, the same shop; and signal in it to be learnt."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.recipes.shop.data.customers import CHURN_COLUMNS, RETURN_COLUMNS, churn, returns
from runners.recipes.shop.data.queries import gains, queries, relevance
from runners.recipes.shop.data.reviews import MOODS, reviews
from runners.recipes.shop.data.simulator import World, market, products
from runners.recipes.shop.data.vocabulary import CATEGORIES, NOUNS, TOPICS
from runners.recipes.shop.training.measures import ndcg, recall

SMALL = World(products=360, users=60, purchases=12)


def test_the_same_seed_gives_the_same_shop() -> None:
    products.cache_clear()
    market.cache_clear()
    before = market(SMALL, "de").bought, products(SMALL).title
    products.cache_clear()
    market.cache_clear()
    np.testing.assert_array_equal(market(SMALL, "de").bought, before[0])
    assert products(SMALL).title == before[1]
    assert not np.array_equal(market(SMALL, "fr").bought, before[0])


def test_every_category_sells_and_every_title_names_what_it_is() -> None:
    shop = products(SMALL)
    assert set(shop.category) == set(range(len(CATEGORIES)))
    for item in range(0, len(shop), 17):
        nouns = NOUNS[CATEGORIES[shop.category[item]]]
        assert any(noun in shop.title[item] for noun in nouns)


def test_nobody_buys_the_same_twice_and_held_out_purchases_are_new() -> None:
    learnt, judged = market(SMALL, "gb").split(4)
    assert learnt.shape == (60, 8)
    assert judged.shape == (60, 4)
    for before, after in zip(learnt, judged, strict=True):
        assert len({*before, *after}) == 12


def test_what_a_query_means_is_relevant_and_what_is_bought_is_relevant() -> None:
    asked, shop = queries(SMALL, 60, 0), products(SMALL)
    every, rng = np.arange(len(shop)), np.random.default_rng(0)
    for row in range(len(asked.text)):
        match = relevance(asked, row, shop, every)
        assert match[asked.target[row]] == pytest.approx(match.max())
        gained = gains(asked, row, shop, every, rng)
        assert set(np.unique(gained)) <= {0, 1, 2, 3}
        assert not gained[match < 0.1].any()


def test_reviews_and_rows_are_labelled() -> None:
    written = reviews(300, 1)
    assert set(written.mood) == set(range(len(MOODS)))
    assert set(written.topic) == set(range(len(TOPICS)))
    assert all(written.text)
    for make, columns in ((returns, RETURN_COLUMNS), (churn, CHURN_COLUMNS)):
        rows = make(500, 1)
        assert rows.features.shape == (500, len(columns))
        assert np.isfinite(rows.features).all()
        assert 0.1 < rows.happened.mean() < 0.5


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_the_best_order_is_one_and_no_order_is_better(gained: list[int]) -> None:
    shown = np.array(gained)
    best = np.sort(shown)[::-1]
    assert ndcg(best, shown) == pytest.approx(1.0)
    assert 0.0 <= ndcg(shown, shown) <= 1.0 + 1e-9


def test_recall_is_a_share_of_what_was_wanted() -> None:
    assert recall(np.arange(30), np.array([3, 25]), at=20) == 0.5
