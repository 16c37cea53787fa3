"""A picture of one object: light, cluttered background, ground, shadow, and where its keypoints are seen.

Whatever surrounds the object is drawn independently of the azimuth it is seen from, so that only the object
itself can tell the viewpoint.
"""

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from spheremap.data.shapes.camera import Camera
from spheremap.data.shapes.mesh import Mesh
from spheremap.data.shapes.raster import Buffers, coverage, rasterise

Floats = NDArray[np.float32]

SUPERSAMPLING = 2  # samples per pixel and axis
CREASE = 40.0  # degrees: edges sharper than this stay sharp under smooth shading
# a keypoint is seen if a visible surface sample at most so many samples away from it in the picture lies this
# near to it in space (object radii; in coarse pictures, so many spacings of the samples)
KEYPOINT_REACH = 2
KEYPOINT_TOLERANCE = 0.045
KEYPOINT_SPACINGS = 1.5

# lookup tables between 8-bit sRGB and linear light
_LEVELS = np.arange(256) / 255
_LINEAR = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4).astype(np.float32)
_STEPS = np.arange(4096) / 4095
_CURVE = np.where(_STEPS <= 0.0031308, 12.92 * _STEPS, 1.055 * _STEPS ** (1 / 2.4) - 0.055)
_ENCODED = 255 * _CURVE.astype(np.float32)


@dataclass(frozen=True)
class Solid:
    """A mesh made ready for shading: `normals` `(F, 3, 3)` are unit normals at the corners of its faces."""

    mesh: Mesh
    normals: Floats


@dataclass(frozen=True)
class Picture:
    """A picture: `rgb` `(size, size, 3)`, the object's `mask` `(size, size)`, and the samples' `buffers`."""

    rgb: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    buffers: Buffers


def solid(mesh: Mesh) -> Solid:
    """Average the normals around each vertex over the faces that meet there at less than the crease angle."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    area_normal = np.cross(b - a, c - a)  # (F, 3), length = twice the area
    length = np.linalg.norm(area_normal, axis=1, keepdims=True)
    unit = area_normal / np.maximum(length, 1e-12)

    # parts may repeat a vertex: corners belong together if their positions agree
    _, place = np.unique(np.round(mesh.vertices, 6), axis=0, return_inverse=True)
    place = place.reshape(-1)[mesh.faces].reshape(-1)  # (3F,)
    order = np.argsort(place, kind="stable")
    count = np.bincount(place)
    start = np.cumsum(count) - count
    # all pairs (corner, corner at the same place)
    corner = np.repeat(np.arange(len(place)), count[place])
    within = np.arange(len(corner)) - np.repeat(np.cumsum(count[place]) - count[place], count[place])
    other = order[start[place[corner]] + within]
    smooth = np.einsum("ij,ij->i", unit[corner // 3], unit[other // 3]) > np.cos(np.radians(CREASE))
    total = np.zeros((len(place), 3))
    np.add.at(total, corner[smooth], area_normal[other[smooth] // 3])
    total /= np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
    return Solid(mesh, total.reshape(-1, 3, 3).astype(np.float32))


def render(subject: Solid, camera: Camera, rng: np.random.Generator) -> Picture:
    """Draw the object before a random background under random light.

    Args:
        subject: the object.
        camera: its `size` is the side of the picture.
        rng: decides about light and background.
    """
    size, fine = camera.size, camera.size * SUPERSAMPLING
    buffers = rasterise(camera.resized(fine), subject.mesh.vertices, subject.mesh.faces)
    light = _draw_light(rng)
    background = _background(subject.mesh, camera, light, rng)

    shaded = np.zeros((fine * fine, 3), dtype=np.float32)
    shaded[buffers.pixels] = _shade(subject, camera.position, buffers, light)
    covered = (buffers.face >= 0).astype(np.float32)
    alpha = _downsample(covered[..., None])
    linear = background * (1 - alpha) + _downsample(shaded.reshape(fine, fine, 3))
    linear *= np.float32(rng.uniform(0.85, 1.2))  # exposure
    noise = rng.standard_normal((size, size, 3), dtype=np.float32) * np.float32(rng.uniform(0.0, 4.0))
    rgb = _ENCODED[np.clip(linear * 4095 + 0.5, 0, 4095).astype(np.int32)] + noise
    return Picture(np.clip(rgb + 0.5, 0, 255).astype(np.uint8), alpha[..., 0] >= 0.5, buffers)


def visible_points(
    points: NDArray[np.float64], camera: Camera, picture: Picture
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Project keypoints and tell which are seen.

    A keypoint is seen if it lies in the image and the depth buffer holds, next to its pixel, a surface sample
    close to it in space: it is visible exactly when the surface around it is.

    Args:
        points: keypoints `(K, 3)` in the world, NaN for those that the object does not have.
        camera: the camera of the picture.
        picture: the rendered picture.

    Returns:
        Pixels `(K, 2)`, NaN where not seen, and `(K,)` whether seen.
    """
    fine = camera.resized(camera.size * SUPERSAMPLING)
    present = np.isfinite(points).all(axis=1)
    pixels, depths = np.full((len(points), 2), np.nan), np.full(len(points), np.nan)
    pixels[present], depths[present] = camera.project(points[present])
    seen = np.asarray(present & ((pixels >= 0) & (pixels <= camera.size)).all(axis=1))

    reach = np.arange(-KEYPOINT_REACH, KEYPOINT_REACH + 1)
    shift = np.stack(np.meshgrid(reach, reach), axis=-1).reshape(-1, 2)
    sample = np.floor(pixels[seen] * SUPERSAMPLING)[:, None].astype(np.int64) + shift  # (K', S, 2)
    inside = ((sample >= 0) & (sample < fine.size)).all(axis=2)
    sample = np.clip(sample, 0, fine.size - 1)
    depth = picture.buffers.depth[sample[..., 1], sample[..., 0]]
    inside &= np.isfinite(depth)
    surface = fine.unproject(sample + 0.5, np.where(inside, depth, 0.0))
    distance = np.linalg.norm(surface - points[seen][:, None], axis=2)
    tolerance = np.maximum(KEYPOINT_TOLERANCE, KEYPOINT_SPACINGS * depths[seen] / fine.focal)
    seen[seen] = (inside & (distance < tolerance[:, None])).any(axis=1)
    pixels[~seen] = np.nan
    return pixels, seen


# ------------------------------------------------------------------------------------------------------ light


@dataclass(frozen=True)
class _Light:
    """Sun, sky and bounced light (linear RGB), and how shiny the object is."""

    direction: Floats  # (3,) unit vector towards the sun
    sun: Floats
    sky: Floats
    bounce: Floats
    gloss: float
    shininess: float


def _draw_light(rng: np.random.Generator) -> _Light:
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(35, 80))
    direction = [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    warm = rng.uniform(-0.15, 0.15)  # from bluish to yellowish sunlight
    tint = np.array([1 + warm, 1.0, 1 - warm])
    sky = np.array([1 - warm, 1.0, 1 + warm])
    return _Light(
        direction=np.array(direction, dtype=np.float32),
        sun=(rng.uniform(0.45, 1.0) * tint).astype(np.float32),
        sky=(rng.uniform(0.35, 0.6) * sky).astype(np.float32),
        bounce=(rng.uniform(0.12, 0.3) * tint).astype(np.float32),
        gloss=float(rng.uniform(0.0, 0.35)),
        shininess=float(rng.uniform(10, 60)),
    )


def _shade(subject: Solid, eye: NDArray[np.float64], buffers: Buffers, light: _Light) -> Floats:
    """Colour `(P, 3)` in linear light of the covered samples: ambient, Lambert and Blinn-Phong terms."""
    face = buffers.face.reshape(-1)[buffers.pixels]
    weights = buffers.weights.astype(np.float32)
    normal = np.einsum("pc,pcd->pd", weights, subject.normals[face])
    normal /= np.maximum(np.sqrt(np.einsum("pd,pd->p", normal, normal)), 1e-6)[:, None]
    # flat view direction per face is enough for a highlight
    centroid = sum(subject.mesh.vertices[subject.mesh.faces[:, corner]] for corner in range(3)) / 3
    to_eye = eye - centroid
    half = to_eye / np.linalg.norm(to_eye, axis=1, keepdims=True) + light.direction
    half /= np.linalg.norm(half, axis=1, keepdims=True)

    up = (0.5 + 0.5 * normal[:, 2])[:, None]
    ambient = light.bounce * (1 - up) + light.sky * up
    diffuse = np.maximum(np.einsum("pd,d->p", normal, light.direction), 0)[:, None]
    aligned = np.maximum(np.einsum("pd,pd->p", normal, half.astype(np.float32)[face]), 0)
    highlight = np.float32(light.gloss) * aligned ** np.float32(light.shininess)
    colour = subject.mesh.colors.astype(np.float32)[face]
    return colour * (ambient + light.sun * diffuse) + light.sun * highlight[:, None]


# ------------------------------------------------------------------------------------------------- background


def _background(mesh: Mesh, camera: Camera, light: _Light, rng: np.random.Generator) -> Floats:
    """Backdrop `(size, size, 3)` in linear light: gradient, clutter, often a ground and a shadow on it."""
    size = camera.size
    canvas = _gradient(size, rng)
    canvas = _clutter(canvas, rng, count=int(rng.integers(2, 12)), blur=rng.uniform(0.01, 0.025) * size)
    canvas = _clutter(canvas, rng, count=int(rng.integers(2, 12)), blur=rng.uniform(0.002, 0.01) * size)
    linear = _LINEAR[np.asarray(canvas)]
    if rng.random() < 0.75:
        linear = _with_ground(linear, mesh, camera, light, rng)
    tint = np.stack([_noise(size, rng, octaves=(3, 8)) for _ in range(3)], axis=2)
    texture = rng.uniform(0.05, 0.4) * _noise(size, rng)[..., None] + rng.uniform(0.0, 0.12) * tint
    return np.asarray(linear * np.exp(texture), dtype=np.float32)


def _gradient(size: int, rng: np.random.Generator) -> Image.Image:
    """A soft gradient between random colours, as an sRGB image."""
    coarse = np.array([[_colour(rng) for _ in range(2)] for _ in range(2)], dtype=np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """A random sRGB colour, dull ones more often than bright ones."""
    rgb = colorsys.hsv_to_rgb(rng.random(), 0.7 * rng.random() ** 2, rng.uniform(0.12, 0.95))
    red, green, blue = (int(255 * channel) for channel in rgb)
    return red, green, blue


def _clutter(canvas: Image.Image, rng: np.random.Generator, *, count: int, blur: float) -> Image.Image:
    """Draw random boxes, discs, polygons and lines over an sRGB image, then blur it (radius in pixels)."""
    size = canvas.width
    draw = ImageDraw.Draw(canvas)
    for _ in range(count):
        middle = rng.uniform(-0.05, 1.05, size=2) * size
        extent = size * rng.uniform(0.03, 0.3) * rng.uniform(0.4, 1.6, size=2)
        colour = _colour(rng)
        kind = rng.integers(4)
        corners = [tuple(middle - extent / 2), tuple(middle + extent / 2)]
        if kind == 0:
            draw.rectangle(corners, fill=colour, outline=_colour(rng))
        elif kind == 1:
            draw.ellipse(corners, fill=colour)
        elif kind == 2:
            angles = np.sort(rng.uniform(0, 2 * np.pi, size=int(rng.integers(3, 8))))
            ring = middle + extent * np.stack([np.cos(angles), np.sin(angles)], axis=1)
            draw.polygon([tuple(point) for point in ring], fill=colour)
        else:
            start = middle + rng.normal(size=2) * size * 0.3
            width = max(1, int(size * rng.uniform(0.004, 0.03)))
            for step in rng.normal(size=(int(rng.integers(1, 5)), 2)) * size * 0.08:
                draw.line([tuple(start + step), tuple(middle + step)], fill=colour, width=width)
    return canvas.filter(ImageFilter.GaussianBlur(blur))


def _noise(size: int, rng: np.random.Generator, octaves: tuple[int, ...] = (4, 11, 30, 80)) -> Floats:
    """Smooth noise `(size, size)` of about unit variance with detail at several scales (cells per side)."""
    total = np.zeros((size, size), dtype=np.float32)
    for cells in octaves:
        grid = rng.standard_normal((cells, cells), dtype=np.float32) * np.float32(rng.uniform(0.3, 1.0))
        total += np.asarray(Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC))
    return total / np.float32(len(octaves) ** 0.5)


def _with_ground(
    backdrop: Floats, mesh: Mesh, camera: Camera, light: _Light, rng: np.random.Generator
) -> Floats:
    """Lay a textured ground under the object, fading towards the horizon, with the object's soft shadow."""
    size = camera.size
    level = float(mesh.vertices[:, 2].min())
    middle = (np.arange(size) + 0.5 - camera.centre[:, None]) / camera.focal  # (2, size)
    right, down, forward = camera.axes
    rays = [middle[0] * right[k] + (middle[1] * down[k] + forward[k])[:, None] for k in range(3)]
    below = rays[2] < -1e-3
    if not below.any():
        return backdrop
    reach = np.where(below, (level - camera.position[2]) / np.where(below, rays[2], -1.0), 0.0)[below]
    x, y = (camera.position[k] + reach * rays[k][below] for k in range(2))

    texture = _ground_texture(rng)
    turn, scale = rng.uniform(0, 2 * np.pi), len(texture) * rng.uniform(0.06, 0.25)
    offset = rng.uniform(0, 100, size=2)
    u = (np.cos(turn) * x - np.sin(turn) * y + offset[0]) * scale
    v = (np.sin(turn) * x + np.cos(turn) * y + offset[1]) * scale
    albedo = texture[_mirrored(v, len(texture)), _mirrored(u, len(texture))]
    lit = albedo * (light.sky + light.sun * light.direction[2])
    # the texture dissolves into its mean colour and then into the backdrop with distance
    fade = np.exp(-reach / rng.uniform(8, 30)).astype(np.float32)[:, None]
    lit = lit * fade + lit.mean(axis=0) * (1 - fade)
    haze = np.exp(-reach / rng.uniform(15, 80)).astype(np.float32)[:, None]
    shadow = _shadow(mesh, camera, level, light, rng)[below][:, None]
    result = backdrop.copy()
    result[below] = (lit * haze + backdrop[below] * (1 - haze)) * (1 - shadow)
    return result


def _ground_texture(rng: np.random.Generator, side: int = 256) -> Floats:
    """Albedo `(side, side, 3)` of the ground: noise, tiles or stripes in two colours."""
    pattern = _noise(side, rng, octaves=(6, 20, 60, 128)) * np.float32(rng.uniform(0.1, 0.4))
    kind = rng.integers(4)
    if kind > 0:
        period = int(rng.integers(6, 40))
        row, column = np.indices((side, side)) // period
        regular = {1: (row + column) % 2, 2: row % 2, 3: (np.indices((side, side)) % period < 2).any(axis=0)}
        pattern += regular[int(kind)].astype(np.float32) * np.float32(rng.uniform(0.15, 0.7))
    mix = np.clip(0.3 + pattern, 0, 1)[..., None]
    one, two = (_LINEAR[np.array(_colour(rng))] for _ in range(2))
    return np.asarray(one * (1 - mix) + two * mix, dtype=np.float32)


def _mirrored(position: NDArray[np.float64], side: int) -> NDArray[np.int64]:
    """Index into a texture that continues as its mirror image, so that it has no seams."""
    index = np.floor(position).astype(np.int64) % (2 * side)
    return np.where(index < side, index, 2 * side - 1 - index)


def _shadow(mesh: Mesh, camera: Camera, level: float, light: _Light, rng: np.random.Generator) -> Floats:
    """Part of the light `(size, size)` that the object takes from the ground: cast and contact shadow."""
    small = camera.resized(camera.size // 2)
    strength = np.float32(rng.uniform(0.35, 0.75))
    cast = _ground_shadow(mesh, small, level, light.direction.astype(np.float64), blur=0.012)
    contact = _ground_shadow(mesh, small, level, np.array([0.0, 0.0, 1.0]), blur=0.03)
    dark = strength * np.maximum(cast, 0.6 * contact)
    return np.asarray(Image.fromarray(dark).resize((camera.size, camera.size), Image.Resampling.BILINEAR))


def _ground_shadow(
    mesh: Mesh, camera: Camera, level: float, towards_light: NDArray[np.float64], blur: float
) -> Floats:
    """Blurred silhouette `(size, size)` in [0, 1] of the mesh projected along the light onto the ground."""
    drop = (mesh.vertices[:, 2:] - level) / towards_light[2]
    silhouette = coverage(camera, mesh.vertices - drop * towards_light, mesh.faces)
    image = Image.fromarray(silhouette.astype(np.uint8) * 255)
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(blur * camera.size)), dtype=np.float32)
    return blurred / np.float32(255)


def _downsample(samples: Floats) -> Floats:
    """Average the samples `(s·size, s·size, C)` of each pixel."""
    offsets = np.ndindex(SUPERSAMPLING, SUPERSAMPLING)
    # one sample of each pixel after the other: NumPy's mean over such short axes takes four times as long
    total = sum(samples[row::SUPERSAMPLING, column::SUPERSAMPLING] for row, column in offsets)
    return np.asarray(total / np.float32(SUPERSAMPLING**2), dtype=np.float32)
