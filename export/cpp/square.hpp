// An image file -> the square that a model of kcls sees, with the pixels that kcls itself computes.
#pragma once

#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#include <stb_image.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

struct Image {
  int width, height;
  std::vector<uint8_t> pixels;  // RGB, row by row
};

// What kcls.json says: see kcls/data/preprocess.py.
struct Preprocess {
  int image_size;
  std::string fit;  // crop, pad or stretch
  double crop_fraction;
  std::string interpolation;  // bilinear or bicubic
};

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file.is_open() || bytes.empty()) throw std::runtime_error("cannot be read, or is empty");
  return bytes;
}

// The EXIF orientation of a JPEG file, 1 to 8; 1 for what has none.
inline int orientation(const std::string& file) {
  const auto number = [&](size_t at, int size, bool little) {
    unsigned value = 0;
    for (int i = 0; i < size; ++i) value = value << 8 | uint8_t(file.at(at + (little ? size - 1 - i : i)));
    return value;
  };
  if (file.compare(0, 2, "\xFF\xD8") != 0) return 1;
  try {
    size_t segment = 2;  // marker, length, content
    while (number(segment, 2, false) != 0xFFE1 || file.compare(segment + 4, 6, "Exif\0\0", 6) != 0) {
      if (number(segment, 2, false) < 0xFFC0 || number(segment, 2, false) == 0xFFDA) return 1;  // pixels begin
      segment += 2 + number(segment + 2, 2, false);
    }
    const size_t tiff = segment + 10;
    const bool little = file.at(tiff) == 'I';
    const size_t directory = tiff + number(tiff + 4, 4, little);
    for (unsigned i = 0; i < number(directory, 2, little); ++i) {
      const size_t entry = directory + 2 + 12 * i;
      if (number(entry, 2, little) != 0x0112) continue;
      const int found = number(entry + 8, 2, little);
      return 1 <= found && found <= 8 ? found : 1;
    }
  } catch (const std::out_of_range&) {  // a tag that points past the file: there is none
  }
  return 1;
}

// The image as it is to be looked at.
inline Image upright(const Image& image, int orientation) {
  if (orientation == 1) return image;
  const bool turned = orientation >= 5;
  const bool mirrored = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool flipped = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Image result{turned ? image.height : image.width, turned ? image.width : image.height, {}};
  result.pixels.reserve(image.pixels.size());
  for (int y = 0; y < result.height; ++y) {
    for (int x = 0; x < result.width; ++x) {
      const int column = turned ? y : x, row = turned ? x : y;
      const size_t from = size_t(flipped ? image.height - 1 - row : row) * image.width +
                          (mirrored ? image.width - 1 - column : column);
      result.pixels.insert(result.pixels.end(), &image.pixels[3 * from], &image.pixels[3 * from] + 3);
    }
  }
  return result;
}

// A JPEG or PNG file, upright. Throws a std::runtime_error for anything else.
inline Image read_image(const std::string& path) {
  const std::string file = read_file(path);
  int width, height, channels;
  const std::unique_ptr<stbi_uc, decltype(&stbi_image_free)> pixels(
      stbi_load_from_memory(reinterpret_cast<const stbi_uc*>(file.data()), int(file.size()), &width, &height,
                            &channels, 3),
      stbi_image_free);
  if (!pixels) throw std::runtime_error(std::string("not an image that can be read: ") + stbi_failure_reason());
  return upright({width, height, {pixels.get(), pixels.get() + size_t(width) * height * 3}}, orientation(file));
}

// The pixels from `first` on whose weighted sum is one pixel of the result.
struct Taps {
  int first;
  std::vector<double> weights;
};

inline double bilinear(double x) { return std::max(1 - std::abs(x), 0.0); }

inline double bicubic(double x) {  // Keys's kernel, a = -0.5
  x = std::abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

// Resamples `begin` to `end` of `whole` pixels to `count` pixels, antialiased: Pillow's Image.resize with a box.
inline std::vector<Taps> taps(int whole, float begin, float end, int count, const std::string& interpolation) {
  const auto kernel = interpolation == "bicubic" ? bicubic : bilinear;
  const double scale = double(end - begin) / count, stretch = std::max(scale, 1.0);
  const double reach = (interpolation == "bicubic" ? 2 : 1) * stretch;
  std::vector<Taps> result;
  for (int i = 0; i < count; ++i) {
    const double center = begin + (i + 0.5) * scale;
    const int first = std::max(int(center - reach + 0.5), 0), last = std::min(int(center + reach + 0.5), whole);
    Taps tap{first, {}};
    double sum = 0;
    for (int x = first; x < last; ++x) {
      tap.weights.push_back(kernel((x - center + 0.5) / stretch));
      sum += tap.weights.back();
    }
    for (double& weight : tap.weights) weight /= sum;
    result.push_back(tap);
  }
  return result;
}

// Resamples each of `rows` rows of RGB pixels and lays it down as a column: (rows, width) -> (taps, rows).
template <class Number>
std::vector<float> resample_and_turn(const Number* pixels, int rows, int width, const std::vector<Taps>& taps) {
  std::vector<float> result;
  result.reserve(taps.size() * rows * 3);
  for (const Taps& tap : taps) {
    for (int row = 0; row < rows; ++row) {
      const Number* from = pixels + (size_t(row) * width + tap.first) * 3;
      for (int band = 0; band < 3; ++band) {
        double sum = 0;
        for (size_t i = 0; i < tap.weights.size(); ++i) sum += from[3 * i + band] * tap.weights[i];
        result.push_back(float(sum));
      }
    }
  }
  return result;
}

// RGB (image_size, image_size, 3).
inline std::vector<uint8_t> square(const Image& image, const Preprocess& how) {
  const int size = how.image_size, whole[2] = {image.width, image.height};
  const double shorter = std::min(whole[0], whole[1]), longer = std::max(whole[0], whole[1]);
  std::vector<Taps> axes[2];  // x, y
  for (int axis : {0, 1}) {
    const double part = how.fit == "pad" ? whole[axis] : how.crop_fraction * (how.fit == "crop" ? shorter : whole[axis]);
    const int count = how.fit == "pad" ? std::max(int(std::nearbyint(whole[axis] * double(size) / longer)), 1) : size;
    const double begin = (whole[axis] - part) / 2;
    axes[axis] = taps(whole[axis], float(begin), float(begin + part), count, how.interpolation);
  }
  const int columns = int(axes[0].size()), rows = int(axes[1].size());
  const auto turned = resample_and_turn(image.pixels.data(), image.height, image.width, axes[0]);
  const auto resized = resample_and_turn(turned.data(), columns, image.height, axes[1]);
  std::vector<uint8_t> canvas(size_t(size) * size * 3, 128);
  for (int y = 0; y < rows; ++y) {
    uint8_t* to = &canvas[(size_t((size - rows) / 2 + y) * size + (size - columns) / 2) * 3];
    for (int i = 0; i < columns * 3; ++i) {
      to[i] = uint8_t(std::clamp(std::nearbyint(resized[size_t(y) * columns * 3 + i]), 0.0f, 255.0f));
    }
  }
  return canvas;
}
