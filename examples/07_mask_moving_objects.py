"""Mask what moves with a function of your own: here the hood of the car, which is the same in every image.

    blocknerf run capture --out runs/mine --mask-with examples.07_mask_moving_objects:movable --mask-margin 4

The function takes an image, uint8 [height, width, 3], and returns bool [height, width], True where something can move.
Each mask is written once, as a PNG in the run. A segmentation model fits in the same place. It loads once, with the
module; torchvision's DeepLabV3 (`pip install torchvision`), which knows Pascal VOC's classes, is called like this:

    from torchvision.models.segmentation import DeepLabV3_ResNet50_Weights, deeplabv3_resnet50

    weights = DeepLabV3_ResNet50_Weights.DEFAULT
    model, classes = deeplabv3_resnet50(weights=weights).eval(), weights.meta["categories"]
    moving = torch.tensor([classes.index(name) for name in ("bicycle", "bus", "car", "motorbike", "person", "train")])

    def movable(image):
        batch = weights.transforms()(torch.from_numpy(image).permute(2, 0, 1))[None]
        with torch.inference_mode():
            labels = model(batch)["out"].argmax(1)
        found = torch.isin(labels, moving).float()[None]
        return torch.nn.functional.interpolate(found, size=image.shape[:2])[0, 0].bool().numpy()

and a model of Hugging Face (`pip install transformers`) that knows street scenes like this:

    from PIL import Image
    from transformers import pipeline

    segment = pipeline("image-segmentation", "nvidia/segformer-b0-finetuned-cityscapes-1024-1024")
    MOVING = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")

    def movable(image):
        masks = [part["mask"] for part in segment(Image.fromarray(image)) if part["label"] in MOVING]
        return np.any([np.asarray(mask) > 0 for mask in masks], axis=0) if masks else np.zeros(image.shape[:2], bool)
"""

import numpy as np

HOOD_TOP, HOOD_HALF_WIDTH = 0.88, 0.4
"""Top of the hood and half its width, as fractions of the image."""


def movable(image: np.ndarray) -> np.ndarray:
    """Return True on the hood of the car: an arch at the bottom of the image."""
    height, width = image.shape[:2]
    y, x = np.indices((height, width))
    across = (x + 0.5) / width - 0.5
    top = 1.0 - (1.0 - HOOD_TOP) * np.sqrt(np.clip(1.0 - (across / HOOD_HALF_WIDTH) ** 2, 0.0, None))
    return (y + 0.5) / height > top
