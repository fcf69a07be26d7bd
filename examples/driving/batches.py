"""Steering angles from pictures of three cameras. Workers import this file: no TensorFlow in here."""

import numpy as np

import stoker

SIZE = (33, 100)                                          # height, width
CAMERAS = {"center": 0.0, "left": 0.2, "right": -0.2}     # what a camera's place adds to the angle
PER_PIXEL = 0.025                                         # what a shift of the picture adds to it


@stoker.sample({"image": ("uint8", SIZE + (3,)), "steering": "float32"})
def drive(sample, random):
    camera = random.choice(sorted(CAMERAS)) if sample.training else "center"
    image = np.asarray(sample.image(sample.row[camera], size=SIZE))
    steering = float(sample.row["steering"]) + CAMERAS[camera]
    if sample.training:
        pixels = random.randint(-8, 8)
        image, steering = np.roll(image, pixels, axis=1), steering + PER_PIXEL * pixels
        if random.random() < 0.5:
            image, steering = image[:, ::-1], -steering
    return {"image": image, "steering": steering}
