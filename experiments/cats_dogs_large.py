from experiments.cats_dogs_finetune import CatsDogsFinetune


class CatsDogsLarge(CatsDogsFinetune):
    """A larger image, more of the backbone trained."""

    image_size = 288
    frozen = 0.5


DEFAULT = CatsDogsLarge
