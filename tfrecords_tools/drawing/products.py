"""A shop's assortment: families of products that differ by flavour, and loose produce."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from tfrecords_tools.drawing import labels, packages, produce
from tfrecords_tools.drawing.labels import mix

TURNS = (-0.05, 0.035)  # how far a package may be turned from the viewer

# Flavour: colour, picture on the label.
FLAVOURS = {
    "Orange": ((244, 140, 24), labels.slice_),
    "Lemon": ((246, 214, 40), labels.slice_),
    "Lime": ((140, 196, 50), labels.slice_),
    "Apple": ((120, 180, 60), labels.fruit),
    "Peach": ((248, 170, 110), labels.fruit),
    "Mango": ((250, 176, 40), labels.fruit),
    "Tomato": ((214, 44, 34), labels.fruit),
    "Cherry": ((176, 16, 44), labels.berries),
    "Grape": ((112, 50, 130), labels.berries),
    "Strawberry": ((226, 50, 70), labels.berries),
    "Blueberry": ((58, 70, 150), labels.berries),
    "Plum": ((96, 36, 84), labels.fruit),
    "Apricot": ((242, 158, 70), labels.fruit),
    "Mint": ((60, 170, 130), labels.leaf),
    "Basil": ((54, 130, 56), labels.leaf),
    "Onion": ((150, 150, 60), labels.leaf),
    "Paprika": ((200, 56, 30), labels.leaf),
    "Chili": ((190, 24, 20), labels.sun),
    "Salt": ((40, 110, 190), labels.sun),
    "Vinegar": ((80, 150, 90), labels.drop),
    "Honey": ((230, 164, 40), labels.drop),
    "Classic": ((170, 30, 36), labels.drop),
    "Light": ((130, 190, 226), labels.drop),
    "Zero": ((40, 40, 46), labels.drop),
    "Still": ((60, 150, 214), labels.drop),
    "Vanilla": ((238, 220, 160), labels.swirl),
    "Cocoa": ((104, 62, 36), labels.bean),
    "Espresso": ((60, 36, 24), labels.bean),
    "Mild": ((190, 140, 90), labels.bean),
    "Decaf": ((90, 140, 110), labels.bean),
    "Nut": ((176, 124, 66), labels.bean),
    "Oat": ((214, 188, 136), labels.grain),
    "Wheat": ((222, 176, 80), labels.grain),
    "Plain": ((228, 228, 222), labels.swirl),
    "Chicken": ((232, 180, 90), labels.swirl),
    "Mushroom": ((160, 140, 116), labels.swirl),
    "Pea": ((120, 170, 70), labels.bean),
    "Camomile": ((244, 220, 110), labels.sun),
    "Lavender": ((150, 120, 190), labels.leaf),
    "Aloe": ((120, 190, 140), labels.leaf),
    "Beef": ((160, 50, 46), labels.swirl),
    "Pork": ((226, 150, 140), labels.swirl),
    "Salmon": ((244, 136, 110), labels.swirl),
}

_WORDS = {
    ("Juice", packages.carton): "Orange Apple Mango Cherry Grape Tomato",
    ("Milk", packages.carton): "Classic Light Oat Cocoa Vanilla Zero",
    ("Soda", packages.can): "Classic Zero Lemon Orange Cherry Lime",
    ("Cooler", packages.bottle): "Classic Lemon Orange Grape Lime Zero",
    ("Water", packages.bottle): "Still Lemon Mint Peach Strawberry",
    ("Crisps", packages.bag): "Salt Paprika Onion Vinegar Chili Honey",
    ("Coffee", packages.pouch): "Mild Espresso Decaf Classic Vanilla",
    ("Veggies", packages.pouch): "Pea Mushroom Basil Tomato Onion",
    ("Soup", packages.tin): "Tomato Mushroom Chicken Pea Onion Beef",
    ("Fruits", packages.tin): "Peach Mango Apricot Cherry Plum",
    ("Jam", packages.jar): "Strawberry Apricot Cherry Blueberry Plum Orange",
    ("Sauce", packages.jar): "Tomato Basil Chili Mushroom Paprika",
    ("Yoghurt", packages.tub): "Plain Strawberry Blueberry Peach Vanilla Mango",
    ("Gelato", packages.tub): "Vanilla Cocoa Strawberry Mint Nut Lemon",
    ("Shampoo", packages.flask): "Aloe Lavender Mint Apple Oat Honey",
    ("Cleaner", packages.flask): "Lemon Lavender Mint Orange Zero",
    ("Cereal", packages.box): "Honey Cocoa Nut Wheat Oat Strawberry",
    ("Tea", packages.wide_box): "Camomile Mint Lemon Classic Blueberry Lavender",
    ("Biscuits", packages.wide_box): "Cocoa Vanilla Oat Nut Lemon Wheat",
    ("Fresh", packages.tray): "Beef Pork Chicken Salmon",
}
KINDS = tuple((noun, paint, tuple(text.split())) for (noun, paint), text in _WORDS.items())

BRAND_COLOURS = (
    (176, 30, 40), (26, 70, 140), (30, 110, 70), (236, 180, 40), (90, 50, 120), (230, 110, 40),
    (34, 140, 160), (120, 30, 60), (60, 60, 70), (236, 232, 220), (150, 190, 70), (220, 90, 130),
    (110, 74, 46), (100, 160, 210),
)  # fmt: skip
SECONDARIES = (
    labels.WHITE, (246, 226, 160), (30, 36, 56), (214, 40, 44), (250, 206, 60), (40, 90, 60),
)  # fmt: skip
SYLLABLES = "no ri va sol ben ka lu mo tas el dor fi zan pe ar wi".split()
PRODUCE_SHARE = 0.15


class Product(NamedTuple):
    """A category: its name, its family of look-alikes, and how its package is drawn."""

    name: str
    family: str
    paint: Callable
    design: labels.Design | produce.Produce


@functools.lru_cache(maxsize=4)
def assortment(classes, seed):
    """tuple of `classes` `Product`s, sorted by name; families of three to six look alike."""
    rng = np.random.default_rng([seed, 1])
    loose = iter(_loose(rng))
    printed = _printed(rng)
    products = []
    loose_so_far = 0
    while len(products) < classes:
        family = next(loose, None) if loose_so_far <= PRODUCE_SHARE * len(products) else None
        if family:
            loose_so_far += len(family)
        products += family or next(printed)
    return tuple(sorted(products[:classes]))


@functools.lru_cache(maxsize=4096)
def art(product, turn, unit):
    """RGBA `Image` of a product's package, `unit` pixels to a unit of shelf height."""
    drawn = product.paint(product.design, TURNS[turn])
    scale = unit / packages.PIXELS
    fitted = [max(2, round(side * scale)) for side in drawn.size]
    return drawn.resize(fitted, Image.Resampling.LANCZOS)


@functools.lru_cache(maxsize=4096)
def neighbours(classes, seed, number):
    """tuple of `Product`s that a shop puts beside the `number`-th: of its own kind for the most."""
    everything = assortment(classes, seed)
    product = everything[number]
    loose = [other for other in everything if other.paint is produce.heap]
    packed = [other for other in everything if other.paint is not produce.heap]
    department = loose if product.paint is produce.heap else packed
    alike = [other for other in department if other.paint is product.paint]
    return tuple(department + alike * (len(department) // len(alike)))


def _loose(rng):
    """Families of produce, in random order."""
    families = []
    for noun in rng.permutation(list(produce.VARIETIES)):
        crate = produce.CRATES[rng.integers(len(produce.CRATES))]
        families.append(
            [
                Product(
                    f"{noun}-{variety}",
                    str(noun),
                    produce.heap,
                    produce.Produce(*looks, crate, int(rng.integers(1 << 30))),
                )
                for variety, looks in produce.VARIETIES[noun].items()
            ]
        )
    return families


def _printed(rng):
    """Endless families of packaged products: one brand, one shape, several flavours."""
    taken, brands = set(), []
    while True:
        order = rng.permutation(len(KINDS))
        for kind in order:
            noun, paint, flavours = KINDS[kind]
            known = [b for b in brands if (b[0], noun) not in taken]
            if known and rng.random() < 0.35:
                brand = known[rng.integers(len(known))]
            else:
                brand = _brand(rng, {b[0] for b in brands})
                brands.append(brand)
            taken.add((brand[0], noun))
            yield _family(rng, brand, noun, paint, flavours)


def _brand(rng, taken):
    """(name, primary, secondary, layout) of a brand whose name is new."""
    while True:
        name = "".join(rng.choice(SYLLABLES, rng.integers(2, 4))).title()
        if name not in taken:
            break
    primary = BRAND_COLOURS[rng.integers(len(BRAND_COLOURS))]
    primary = tuple(int(c) for c in np.clip(np.add(primary, rng.integers(-18, 19, 3)), 0, 255))
    far = [c for c in SECONDARIES if np.abs(np.subtract(c, primary)).sum() > 180]
    layout = labels.LAYOUTS[rng.integers(len(labels.LAYOUTS))]
    return name, primary, far[rng.integers(len(far))], layout


def _family(rng, brand, noun, paint, flavours):
    name, primary, secondary, layout = brand
    chosen = rng.permutation(flavours)[: rng.integers(3, len(flavours) + 1)]
    # Some families carry their flavour's colour boldly, others barely: those must be read.
    subtlety = rng.uniform(0.0, 0.6)
    family = []
    for flavour in chosen:
        colour, icon = FLAVOURS[flavour]
        accent = mix(colour, primary, subtlety)
        design = labels.Design(
            name,
            noun,
            str(flavour),
            primary,
            secondary,
            accent,
            mix(colour, (90, 60, 40), 0.15),
            icon,
            layout,
            int(rng.integers(1 << 30)),
        )
        family.append(Product(f"{name}-{noun}-{flavour}", f"{name}-{noun}", paint, design))
    return family
