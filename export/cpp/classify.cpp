// Classifies images with a TFLite file of `kcls export`, as export/classify.py does.
//
//   classify [--threads N] [--top N] MODEL.tflite IMAGE...
//
// Prints for each image its most probable labels and the milliseconds of the network. An image that cannot be read is
// named on stderr, the others are done, and the exit code is 1.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "model_file.hpp"
#include "network.hpp"
#include "square.hpp"

struct Options {
  int threads = 1, top = 3;
  std::vector<std::string> paths;  // the model, images
};

// Throws a std::logic_error if they make no sense.
Options parse(int count, char** arguments) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    if (argument != "--threads" && argument != "--top") {
      options.paths.push_back(argument);
      continue;
    }
    const int number = std::stoi(++i < count ? arguments[i] : "");
    if (number < 1) throw std::invalid_argument(argument);
    (argument == "--top" ? options.top : options.threads) = number;
  }
  if (options.paths.size() < 2) throw std::invalid_argument("paths");
  return options;
}

void classify(Network& network, const ModelFile& model, const std::string& path, int top) {
  const std::vector<uint8_t> pixels = square(read_image(path), model.preprocess);
  const auto began = std::chrono::steady_clock::now();
  const std::vector<float> scores = network.run(pixels);
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - began;
  std::vector<int> best(scores.size());
  std::iota(best.begin(), best.end(), 0);
  std::stable_sort(best.begin(), best.end(), [&](int a, int b) { return scores[a] > scores[b]; });
  best.resize(std::min(best.size(), size_t(top)));
  std::printf("%s", path.c_str());
  for (const int i : best) std::printf("  %s %.4f", model.labels[i].c_str(), scores[i]);
  std::printf("  %.2f ms\n", took.count());
}

int main(int count, char** arguments) {
  Options options;
  try {
    options = parse(count, arguments);
  } catch (const std::logic_error&) {
    std::fprintf(stderr, "usage: classify [--threads N] [--top N] MODEL.tflite IMAGE...\n");
    return 2;
  }
  const std::string& file = options.paths[0];
  int failed = 0;
  try {
    const ModelFile model = read_model_file(file);
    Network network(file, options.threads);
    if (network.image_size() != model.preprocess.image_size || network.classes() != int(model.labels.size())) {
      throw std::runtime_error("its network and what lies behind it do not belong together");
    }
    for (size_t i = 1; i < options.paths.size(); ++i) {
      try {
        classify(network, model, options.paths[i], options.top);
      } catch (const std::runtime_error& error) {
        std::fprintf(stderr, "%s: %s\n", options.paths[i].c_str(), error.what());
        failed = 1;
      }
    }
  } catch (const std::runtime_error& error) {
    std::fprintf(stderr, "%s: %s\n", file.c_str(), error.what());
    return 1;
  }
  return failed;
}
