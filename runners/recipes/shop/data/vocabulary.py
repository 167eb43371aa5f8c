"""The vocabulary of the shop: product kinds, attributes, and the words of reviews."""

from __future__ import annotations

from collections.abc import Mapping

MARKETS = ("de", "fr", "it", "es", "nl", "pl", "se", "gb")

NOUNS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "shoes": {
        "sneakers": ("trainers", "sport shoes"),
        "boots": ("ankle boots", "winter boots"),
        "sandals": ("slides", "beach shoes"),
    },
    "dresses": {
        "summer dress": ("sundress", "maxi dress"),
        "evening gown": ("ball gown", "formal dress"),
        "skirt": ("midi skirt", "pleated skirt"),
    },
    "jackets": {
        "raincoat": ("rain jacket", "mac"),
        "parka": ("winter coat", "down jacket"),
        "blazer": ("suit jacket", "sport coat"),
    },
    "phones": {
        "smartphone": ("mobile phone", "cell phone"),
        "phone case": ("phone cover", "bumper"),
        "charger": ("power adapter", "charging cable"),
    },
    "audio": {
        "headphones": ("over ear headset", "noise cancelling headphones"),
        "earbuds": ("in ear headphones", "wireless buds"),
        "speaker": ("bluetooth box", "soundbar"),
    },
    "kitchen": {
        "frying pan": ("skillet", "saute pan"),
        "blender": ("smoothie maker", "mixer"),
        "knife set": ("chef knives", "kitchen knives"),
    },
    "furniture": {
        "bookcase": ("shelf unit", "book shelf"),
        "desk": ("writing table", "office table"),
        "armchair": ("lounge chair", "reading chair"),
    },
    "toys": {
        "building blocks": ("brick set", "construction toy"),
        "plush bear": ("teddy", "soft toy"),
        "board game": ("family game", "tabletop game"),
    },
    "beauty": {
        "face cream": ("moisturiser", "day cream"),
        "lipstick": ("lip colour", "lip balm"),
        "shampoo": ("hair wash", "hair soap"),
    },
    "sports": {
        "yoga mat": ("exercise mat", "pilates mat"),
        "dumbbells": ("hand weights", "free weights"),
        "tent": ("camping tent", "trekking shelter"),
    },
    "books": {
        "crime novel": ("thriller", "detective story"),
        "cookbook": ("recipe book", "baking book"),
        "atlas": ("map book", "travel guide"),
    },
    "garden": {
        "lawn mower": ("grass cutter", "mower"),
        "plant pot": ("flower pot", "planter"),
        "hose": ("garden pipe", "watering hose"),
    },
}
"""The products of each category, each with its synonyms."""

CATEGORIES = tuple(NOUNS)

COLOURS = ("black", "white", "red", "blue", "green", "yellow", "grey", "pink")
MATERIALS = ("leather", "cotton", "steel", "wooden", "recycled", "ceramic")
STYLES = ("classic", "modern", "sporty", "vintage", "minimal", "premium", "compact")
AUDIENCES = ("women", "men", "kids", "unisex")
BRANDS = ("Alder", "Birkdal", "Corvano", "Dunmere", "Eskola", "Fjordline", "Galene", "Hazelt",
          "Imbrex", "Jorvik", "Kestrel", "Lumina", "Maravel", "Nordhem", "Orsino", "Pinewick",
          "Quillon", "Rosetta", "Solveig", "Tamarin")  # fmt: skip

TOPICS: Mapping[str, tuple[str, ...]] = {
    "delivery": ("delivery", "shipping", "courier", "parcel", "package arrival", "tracking"),
    "fit": ("fit", "size", "sizing", "width", "length", "cut"),
    "quality": ("quality", "material", "stitching", "finish", "build", "workmanship"),
    "price": ("price", "value", "cost", "deal", "discount", "what you pay"),
    "service": ("service", "support", "hotline", "staff", "refund", "return handling"),
    "look": ("look", "colour", "design", "shape", "pattern", "style"),
}
"""The topics of reviews, and the words for each."""

GOOD = ("great", "excellent", "lovely", "perfect", "solid", "fantastic", "superb", "a pleasure")
FAIR = ("okay", "average", "acceptable", "as expected", "so so", "nothing special", "mixed", "fine")
BAD = ("terrible", "poor", "awful", "disappointing", "a disaster", "cheap", "broken", "shoddy")
STRONG = ("really", "absolutely", "very", "honestly", "simply", "")
ASIDES = ("bought it last week", "my sister has one too", "for the second time", "as a present",
          "after two months of use", "read the other reviews first", "it came in a large box",
          "we use it every day", "from the summer sale", "not my first order here")  # fmt: skip
