"""Class ids of the PASCAL VOC segmentation masks, which SPair-71k uses."""

_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable"),
    *("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
VOC_CLASS_IDS: dict[str, int] = {name: number for number, name in enumerate(_CLASSES, start=1)}
