"""Pairs of free texts with a person's ruling, written by hand: field, truth, answer, right or not.

They are what `eval.judge.SIMILAR` was chosen on. The writer knew the judge, so they say what kind
of thing it can and cannot see, not how often it errs.
"""

PAIRS = [
    ("position", "On the left side of the frame.", "Left side of the frame.", True),
    ("position", "On the left side of the frame.", "On the right side of the frame.", False),
    ("position", "In the lower right of the frame.", "Bottom right corner of the frame.", True),
    ("position", "In the lower right of the frame.", "In the upper right of the frame.", False),
    ("position", "Centered in the frame.", "In the centre of the frame.", False),  # spelling
    ("position", "Centered in the frame.", "Center of the frame.", True),
    ("position", "Behind the man, in the background.", "In the background.", True),
    ("position", "In the foreground on the left.", "In the background on the left.", False),
    ("position", "At the top of the slope.", "Standing near the top of the slope.", True),
    ("position", "Sitting at the table.", "Next to the window.", False),
    ("appearance", "Wearing a red coat and a black hat.", "A red coat, black hat.", True),
    ("appearance", "Wearing a red coat and a black hat.", "Wears a black hat and red coat.", True),
    ("appearance", "Wearing a red coat.", "Wearing a blue coat.", False),  # one word of two
    ("appearance", "Wearing a red coat.", "Dressed in a scarlet jacket.", True),  # paraphrase
    ("appearance", "Short brown hair and a beard.", "Bearded, with short brown hair.", True),
    ("appearance", "Short brown hair and a beard.", "Long blonde hair.", False),
    ("appearance", "White fur with grey spots.", "Its fur is white, spotted with grey.", True),
    ("appearance", "A tall evergreen covered in snow.", "Tall evergreens, covered in snow.", True),
    ("appearance", "A tall evergreen covered in snow.", "A small green bush.", False),
    ("action", "A man walks to the door and opens it.", "The man walks to a door, opens it.", True),
    ("action", "A man walks to the door and opens it.", "Walking towards the door.", False),
    ("action", "A man walks to the door and opens it.", "A man is eating soup.", False),
    ("action", "The dog jumps over the fence.", "A dog jumping over a fence.", True),
    ("action", "The dog jumps over the fence.", "The dog sleeps beside the fence.", False),
    ("action", "She pours batter into the pan.", "Batter is poured into a pan by her.", True),
    ("action", "She pours batter into the pan.", "She flips a pancake in the pan.", False),
    ("action", "Juggles a football with both feet.", "Juggling a football with the feet.", True),
    ("action", "Rides a bicycle along the street.", "Cycles down the road.", True),  # paraphrase
    ("environment", "A forest in autumn.", "An autumn forest.", True),
    ("environment", "A forest in autumn.", "A kitchen with white tiles.", False),
    ("environment", "A busy city street at night.", "A street in a busy city, at night.", True),
    ("environment", "A busy city street at night.", "A busy city street by day.", False),
    ("environment", "An indoor basketball court.", "A basketball court indoors.", True),
    ("environment", "An indoor basketball court.", "An outdoor basketball court.", False),
    ("environment", "A snowy mountain slope with trees.", "Snowy mountains with pine trees.", True),
    ("environment", "A living room with a sofa.", "A room in a house.", False),
    ("lighting", "Bright daylight.", "Bright natural daylight.", True),
    ("lighting", "Bright daylight.", "Dark, with a single lamp.", False),
    ("lighting", "Soft warm light from a window.", "Warm, soft window light.", True),
    ("lighting", "Soft warm light from a window.", "Harsh cold light.", False),
    (
        "lighting",
        "Low light with strong contrast.",
        "Dimly lit, high contrast.",
        True,
    ),  # paraphrase
    ("lighting", "Even studio lighting.", "Studio lights, even and soft.", True),
]
