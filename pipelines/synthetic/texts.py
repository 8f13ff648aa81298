"""Generates the sample's texts: names and brands, titles per category, reviews that mention features.

Reads what an item, a user or a rating is. Returns strings. Styles are not passed in, so no text can reveal one.
Few templates are used, so that the expected output of explanation extraction is known exactly.

A review of r stars has two to five sentences. One or two of them mention a feature of the item's category with an
opinion word that fits r: good reviews favour the item's strong feature, bad ones its weak feature.
"""

import numpy as np

FEATURES = (
    ("sound", "cable", "cushion", "battery", "microphone"),
    ("strap", "zipper", "pocket", "fabric", "buckle"),
    ("handle", "lid", "spout", "base", "filter"),
    ("neck", "tuner", "bridge", "fretboard", "pickup"),
    ("clasp", "dial", "band", "crown", "alarm"),
    ("switch", "bulb", "cord", "stand", "dimmer"),
)
NOUNS = ("Headphones", "Backpack", "Kettle", "Guitar", "Watch", "Lamp")
PATHS = (
    ("Home Goods", "Audio", "Headphones"),
    ("Home Goods", "Travel", "Backpacks"),
    ("Home Goods", "Kitchen &amp; Table", "Kettles"),
    ("Home Goods", "Music", "Guitars"),
    ("Home Goods", "Travel", "Watches"),
    ("Home Goods", "Kitchen &amp; Table", "Lamps"),
)
OPINIONS = {
    1: ("awful", "useless", "terrible"),
    2: ("flimsy", "disappointing", "poor"),
    3: ("average", "acceptable", "ordinary"),
    4: ("good", "nice", "solid"),
    5: ("excellent", "wonderful", "fantastic"),
}
HEADLINES = {
    1: ("Broke at once", "A waste of money", "Do not buy"),
    2: ("Not what I hoped for", "Rather weak"),
    3: ("It is all right", "Does the job", "Neither good nor bad"),
    4: ("Good value", "Pleased with it", "Would buy again"),
    5: ("Love it", "Exactly what I needed", "Could not be happier"),
}
FAVOURED_SHARE = 0.7  # probability of the opinion word and of the sentence form that reviews of the same stars favour
_ABOUT = (
    "The {feature} is {opinion}.",
    "I think the {feature} is really {opinion}.",
    "It has {article} {opinion} {feature}.",
    "The {feature} felt {opinion} from the first day.",
    "My {relative} also finds the {feature} {opinion}.",
)
_AROUND = (
    "It arrived on a {day}.",
    "I bought it for my {relative}.",
    "We have had it for {count} months now.",
    "I use it about {count} times a week.",
    "The box says &#34;made to last&#34;.",
    "We keep it between the books &amp; the plants.",
    "This is the {count}th one in our house.",
)
_ADJECTIVES = ("Compact", "Classic", "Portable", "Premium", "Light", "Family", "Everyday", "Studio", "Outdoor", "Mini")
_RELATIVES = ("sister", "brother", "father", "neighbour", "daughter", "aunt")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
_STARTS = ("ba", "ke", "lo", "mi", "nu", "ra", "so", "te", "vi", "zo", "dra", "fen", "gri", "hol", "jus", "plo")
_ENDS = ("lan", "mer", "nix", "rop", "sen", "tav", "vor", "wick", "zel", "dorf", "gam", "quist")


def _pick(choices: tuple[str, ...], generator: np.random.Generator) -> str:
    return choices[int(generator.integers(len(choices)))]


def name(generator: np.random.Generator) -> str:
    """A made-up word such as "Kelotav"; brands and people are called so."""
    return (_pick(_STARTS, generator) + _pick(_STARTS, generator) + _pick(_ENDS, generator)).capitalize()


def title(category: int, brand: str, generator: np.random.Generator) -> str:
    """A title with brand and category, and HTML entities as in real dumps.

    Example:
        'Kelotav Compact Kettle with Lid &amp; Spout, 12&#34;'
    """
    first, second = (FEATURES[category][int(place)].capitalize() for place in generator.permutation(5)[:2])
    text = f"{brand} {_pick(_ADJECTIVES, generator)} {NOUNS[category]} with {first}"
    if generator.random() < 0.3:
        text += f" &amp; {second}"
    if generator.random() < 0.2:
        text += f", {int(generator.integers(5, 30))}&#34;"
    return text


def description(category: int, brand: str, generator: np.random.Generator) -> str:
    """One sentence of advertising."""
    feature = _pick(FEATURES[category], generator)
    years = int(generator.integers(1, 6))
    return f"{brand} makes this {NOUNS[category].lower()} with a new {feature} &amp; a guarantee of {years} years."


def review(
    category: int, strong: int, weak: int, rating: int, generator: np.random.Generator, *, featureless: bool = False
) -> tuple[str, str]:
    """The headline and the text of a review of `rating` stars; a `featureless` one mentions no feature.

    Example:
        ('Good value', 'It arrived on a Monday. The spout is solid.')
    """
    features = FEATURES[category]
    favoured = strong if rating >= 4 else weak
    mentions = [favoured if generator.random() < 0.7 else int(generator.integers(len(features)))]
    if generator.random() < 0.4:
        mentions.append(int(generator.integers(len(features))))
    sentences = [_about(features[place], rating, generator) for place in dict.fromkeys(mentions) if not featureless]
    sentences += [_around(generator) for _ in range(int(generator.integers(1, 4)))]
    order = generator.permutation(len(sentences))
    return _pick(HEADLINES[rating], generator), " ".join(sentences[int(place)] for place in order)


def _about(feature: str, rating: int, generator: np.random.Generator) -> str:
    opinion = _favoured(OPINIONS[rating], rating, generator)
    return _favoured(_ABOUT, rating, generator).format(
        feature=feature,
        opinion=opinion,
        article="an" if opinion[0] in "aeiou" else "a",
        relative=_pick(_RELATIVES, generator),
    )


def _favoured(choices: tuple[str, ...], rating: int, generator: np.random.Generator) -> str:
    """The choice that reviews of `rating` stars favour, or any of them."""
    if generator.random() < FAVOURED_SHARE:
        return choices[rating % len(choices)]
    return _pick(choices, generator)


def _around(generator: np.random.Generator) -> str:
    return _pick(_AROUND, generator).format(
        day=_pick(_DAYS, generator), relative=_pick(_RELATIVES, generator), count=int(generator.integers(4, 10))
    )
