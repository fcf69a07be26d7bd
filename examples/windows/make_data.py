"""A text of simple sentences: FOLDER/book.txt, ASCII.

    python make_data.py FOLDER
"""

import os
import random
import sys

WHO = ("the cat", "a sailor", "my aunt", "the old king", "every child")
DOES = ("sees", "likes", "never finds", "always paints", "sings of")
WHAT = ("the sea", "a red house", "small birds", "the moon", "bread and honey")


def make(folder: str) -> None:
    """600 sentences, some 15,000 characters."""
    os.makedirs(folder, exist_ok=True)
    chance = random.Random(0)
    with open(os.path.join(folder, "book.txt"), "w", encoding="ascii") as file:
        for _ in range(600):
            file.write("%s %s %s.\n" % (chance.choice(WHO), chance.choice(DOES), chance.choice(WHAT)))


if __name__ == "__main__":
    make(sys.argv[1])
