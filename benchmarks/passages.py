"""Texts for measuring a chat model: prose for perplexity, questions for greedy answers.

All written for this project.
"""

from __future__ import annotations

PASSAGES = (
    "A railway turnout has two moving blades, called switch rails, that lie against one or the "
    "other of the fixed stock rails. When the blades move, the wheels of the next train follow "
    "the branch they open. The points must be locked before a signal may show a clear aspect, "
    "because a blade that stands open by even a few millimetres can lift a flange over the rail. "
    "In cold countries the turnouts are heated, since a lump of ice between the rails is enough "
    "to stop a whole line on a winter morning.",
    "To bake a plain loaf of bread you need flour, water, salt and yeast. Mix the flour with the "
    "water and let it rest for half an hour, so that the gluten forms by itself. Then add the salt "
    "and the yeast, and fold the dough a few times until it is smooth. Leave it in a warm place "
    "until it has doubled in size. Shape it, let it rise once more, and bake it in a very hot oven "
    "for about forty minutes. The loaf is done when it sounds hollow if you knock on its base.",
    "The heart is a muscle about the size of a fist. Its right side receives blood from the body "
    "and sends it to the lungs, where it takes up oxygen and gives off carbon dioxide. Its left "
    "side receives the blood from the lungs and pumps it through the aorta to every part of the "
    "body. Four valves keep the blood from flowing back. At rest, an adult's heart beats between "
    "sixty and a hundred times a minute.",
    "Maria opened the letter at the kitchen table, while the kettle began to sing behind her. It "
    "was from her brother, who had gone to sea eleven years ago and had not written since. He said "
    "that he was well, that he had a daughter with their mother's eyes, and that he would be in "
    "the harbour on the first Sunday of May. She read it twice, folded it along its old creases, "
    "and put it under the clock, where she would see it every time she wondered how late it was.",
    "In most programming languages, a list can be sorted by giving a function that tells which of "
    "two elements comes first. A good sorting algorithm needs about n times the logarithm of n "
    "comparisons for a list of n elements. If the list is almost in order already, an insertion "
    "sort is faster, because it only moves the few elements that are out of place. That is why "
    "many libraries use a mixture of both.",
    "When two merchants agree on a price, each of them believes that he gains by the trade, or he "
    "would not make it. A market is the sum of many such agreements. Prices rise when more people "
    "want a thing than there is of it, and they fall when it lies unsold on the shelves. No single "
    "person sets them, and yet everyone who buys or sells moves them a little.",
)

QUESTIONS = (
    ("What is the capital of France?", "Paris"),
    ("What is the capital of Japan?", "Tokyo"),
    ("What is the chemical symbol for water?", "H2O"),
    ("How many days are there in a week?", "seven"),
    ("Which planet do we live on?", "Earth"),
    ("What colour is the sky on a clear day?", "blue"),
    ("Who wrote the play Romeo and Juliet?", "Shakespeare"),
    ("What is the largest ocean on Earth?", "Pacific"),
    ("What gas do plants take in from the air?", "carbon dioxide"),
    ("What is the opposite of hot?", "cold"),
    ("Explain in two sentences what a heart does.", "blood"),
    ("Write a short sentence about a cat.", "cat"),
    ("Name three fruits.", "apple"),
    ("What do bees make?", "honey"),
    ("Translate the word 'dog' into Spanish.", "perro"),
    ("What is 2 plus 2?", "4"),
    ("Give me one tip for sleeping better.", "sleep"),
    ("What is photosynthesis?", "light"),
    ("Write a polite email that asks for a day off.", "day off"),
    ("List the steps to make a cup of tea.", "water"),
    ("Why is the sea salty?", "salt"),
    ("Tell me a short story about a dragon.", "dragon"),
    ("What is a computer program?", "instructions"),
    ("Who was the first person to walk on the Moon?", "Armstrong"),
)
"""A question, and a word that a sensible answer holds."""
