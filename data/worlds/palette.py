"""The objects' colours as RGB in [0, 1]: saturated and far apart in hue, while floors and walls are grey.

Whoever looks for an object can thus find it by its hue alone.
"""

COLOURS_RGB = {
    "red": (0.86, 0.06, 0.07),
    "orange": (1.0, 0.47, 0.02),
    "yellow": (1.0, 0.86, 0.05),
    "green": (0.08, 0.66, 0.14),
    "cyan": (0.05, 0.78, 0.86),
    "blue": (0.07, 0.2, 0.92),
    "purple": (0.46, 0.08, 0.8),
    "pink": (1.0, 0.36, 0.66),
}
