// What travels behind a TFLite file of kcls, in a zip archive whose entries are stored as they are.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "square.hpp"

// Name -> content of each entry. Throws a std::out_of_range if there is no archive, or a damaged one.
inline std::map<std::string, std::string> archive(const std::string& file) {
  const auto number = [&](size_t at, int size) {
    uint32_t value = 0;
    for (int i = size; i > 0; --i) value = value << 8 | uint8_t(file.at(at + i - 1));
    return value;
  };
  std::map<std::string, std::string> entries;
  const size_t end = file.rfind("PK\5\6");
  if (end == std::string::npos) throw std::out_of_range("no archive");
  size_t entry = number(end + 16, 4);
  for (uint32_t left = number(end + 10, 2); left > 0; --left) {
    if (number(entry + 10, 2) != 0) throw std::out_of_range("a compressed entry");
    const size_t local = number(entry + 42, 4), content = local + 30 + number(local + 26, 2) + number(local + 28, 2);
    const size_t length = number(entry + 24, 4), name = number(entry + 28, 2);
    file.at(content + length);  // the directory lies behind
    entries[file.substr(entry + 46, name)] = file.substr(content, length);
    entry += 46 + name + number(entry + 30, 2) + number(entry + 32, 2);
  }
  return entries;
}

// The value of a field of kcls.json, without quotes; the names are unique in it.
inline std::string json_value(const std::string& json, const std::string& name) {
  const std::string key = '"' + name + "\": ";
  const size_t at = json.find(key);
  if (at == std::string::npos) throw std::out_of_range(name);
  const size_t begin = at + key.size(), end = json.find_first_of(",}", begin);
  const std::string value = json.substr(begin, end - begin);
  return value.at(0) == '"' ? value.substr(1, value.size() - 2) : value;
}

struct ModelFile {
  std::vector<std::string> labels;
  Preprocess preprocess;
};

// Throws a std::runtime_error for a file that is not of kcls.
inline ModelFile read_model_file(const std::string& path) {
  try {
    const auto entries = archive(read_file(path));
    const std::string &text = entries.at("labels.txt"), &json = entries.at("kcls.json");
    ModelFile model{{}, {std::stoi(json_value(json, "image_size")), json_value(json, "fit"),
                         std::stod(json_value(json, "crop_fraction")), json_value(json, "interpolation")}};
    for (size_t begin = 0, end; begin < text.size(); begin = end + 1) {
      end = std::min(text.find('\n', begin), text.size());
      model.labels.push_back(text.substr(begin, end - begin));
    }
    return model;
  } catch (const std::logic_error& error) {  // std::out_of_range, std::invalid_argument
    throw std::runtime_error("holds no labels and preprocessing: it was not made by kcls, or is damaged");
  }
}
