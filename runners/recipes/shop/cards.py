"""Recipe ``shop-cards``: a line of text for each product."""

from __future__ import annotations

import json
from pathlib import Path

from runners.recipes.origin import Options, Origin, Report
from runners.recipes.shop.data.simulator import World, products
from runners.recipes.shop.options import chosen
from runners.recipes.shop.training.graphs import write_cards


def build(options: Options, out: Path, report: Report, world: World | None = None) -> Origin:
    """Write ``model.onnx`` and ``task.json``.

    Args:
        options: none.
        out: the artefact's folder.
        report: called with one line of progress at a time.
        world: another shop than the default one.
    """
    chosen("shop-cards", options, {})
    world = world or World()
    report(f"writing the cards of {world.products:,} products")
    write_cards(cards(world), out / "model.onnx")
    (out / "task.json").write_text(json.dumps({"items": world.products}))
    return Origin((), {}, ("onnx", "numpy"))


def cards(world: World) -> list[str]:
    """Return one line of text for each product."""
    shop = products(world)
    return [
        f"{shop.title[item]}, {shop.price_eur[item] * (1 - shop.discount[item]):.2f} EUR, "
        f"rated {shop.rating[item]:.1f} of 5"
        for item in range(len(shop))
    ]
