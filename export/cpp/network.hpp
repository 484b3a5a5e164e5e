// A TFLite file of kcls on LiteRT, with XNNPACK on the CPU.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "litert.h"

template <auto destroy>
struct Destroy {
  template <class T>
  void operator()(T* handle) const {
    destroy(handle);
  }
};

template <class Handle, auto destroy>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroy<destroy>>;

inline void check(LiteRtStatus status, const char* what) {
  if (status == kLiteRtStatusOk) return;
  throw std::runtime_error(std::string("LiteRT cannot ") + what + " (status " + std::to_string(status) + ")");
}

class Network {
 public:
  // Throws a std::runtime_error, as `run` does.
  Network(const std::string& path, int threads) {
    LiteRtEnvironment environment;
    const LiteRtEnvOption settings[] = {  // no search for GPUs, and no word but of errors
        setting(kLiteRtEnvOptionTagAutoRegisterAccelerators, kLiteRtHwAcceleratorCpu),
        setting(kLiteRtEnvOptionTagMinLoggerSeverity, kLiteRtLogSeverityError),
    };
    check(LiteRtCreateEnvironment(2, settings, &environment), "start");
    environment_.reset(environment);
    LiteRtModel model;
    check(LiteRtCreateModelFromFile(environment, path.c_str(), &model), "read the model");
    model_.reset(model);
    compile(threads);

    LiteRtSubgraph graph;
    LiteRtTensor input, output;
    LiteRtTensorBufferRequirements needs;
    check(LiteRtGetModelSubgraph(model, 0, &graph), "find the graph");
    check(LiteRtGetSubgraphInput(graph, 0, &input), "find the input");
    check(LiteRtGetCompiledModelInputBufferRequirements(compiled_.get(), 0, 0, &needs), "describe the input");
    input_ = buffer(input, needs, &input_type_);
    check(LiteRtGetSubgraphOutput(graph, 0, &output), "find the output");
    check(LiteRtGetCompiledModelOutputBufferRequirements(compiled_.get(), 0, 0, &needs), "describe the output");
    output_ = buffer(output, needs, &output_type_);
    if (input_type_.element_type != kLiteRtElementTypeUInt8 || input_type_.layout.rank != 4 ||
        output_type_.layout.rank != 2) {
      throw std::runtime_error("does not take one image of bytes and give one score a class");
    }
    if (output_type_.element_type == kLiteRtElementTypeUInt8) {
      check(LiteRtGetPerTensorQuantization(output, &steps_), "tell the steps of the output");
    } else if (output_type_.element_type != kLiteRtElementTypeFloat32) {
      throw std::runtime_error("gives scores that are neither float32 nor uint8");
    }
  }

  int image_size() const { return input_type_.layout.dimensions[1]; }
  int classes() const { return output_type_.layout.dimensions[1]; }

  // RGB (image_size, image_size, 3) -> the probability of each class.
  std::vector<float> run(const std::vector<uint8_t>& square) {
    LiteRtTensorBuffer input = input_.get(), output = output_.get();
    void* memory;
    check(LiteRtLockTensorBuffer(input, &memory, kLiteRtTensorBufferLockModeWrite), "take the image");
    std::copy(square.begin(), square.end(), static_cast<uint8_t*>(memory));
    check(LiteRtUnlockTensorBuffer(input), "take the image");
    check(LiteRtRunCompiledModel(compiled_.get(), 0, 1, &input, 1, &output), "run the model");
    check(LiteRtLockTensorBuffer(output, &memory, kLiteRtTensorBufferLockModeRead), "give the scores");
    std::vector<float> scores(classes());
    if (output_type_.element_type == kLiteRtElementTypeFloat32) {
      std::copy_n(static_cast<const float*>(memory), scores.size(), scores.begin());
    } else {
      std::transform(static_cast<uint8_t*>(memory), static_cast<uint8_t*>(memory) + scores.size(), scores.begin(),
                     [this](uint8_t step) { return steps_.scale * float(step - steps_.zero_point); });
    }
    check(LiteRtUnlockTensorBuffer(output), "give the scores");
    return scores;
  }

 private:
  using Buffer = Owned<LiteRtTensorBuffer, LiteRtDestroyTensorBuffer>;

  static LiteRtEnvOption setting(LiteRtEnvOptionTag tag, int64_t value) {
    LiteRtEnvOption option{tag, {kLiteRtAnyTypeInt, {}}};
    option.value.int_value = value;
    return option;
  }

  void compile(int threads) {
    LiteRtOptions options;
    check(LiteRtCreateOptions(&options), "take options");
    const Owned<LiteRtOptions, LiteRtDestroyOptions> owner(options);
    check(LiteRtSetOptionsHardwareAccelerators(options, kLiteRtHwAcceleratorCpu), "choose the CPU");
    LiteRtOpaqueOptions cpu;  // TOML, as litert/c/options/litert_cpu_options.cc writes it
    const std::string toml = "num_threads = " + std::to_string(threads) + "\n";
    check(LiteRtCreateOpaqueOptions("xnnpack", strdup(toml.c_str()), std::free, &cpu), "set the threads");
    check(LiteRtAddOpaqueOptions(options, cpu), "set the threads");
    LiteRtCompiledModel compiled;
    check(LiteRtCreateCompiledModel(environment_.get(), model_.get(), options, &compiled), "prepare the model");
    compiled_.reset(compiled);
  }

  Buffer buffer(LiteRtTensor tensor, LiteRtTensorBufferRequirements needs, LiteRtRankedTensorType* type) {
    check(LiteRtGetRankedTensorType(tensor, type), "tell a tensor's type");
    LiteRtTensorBuffer made;
    check(LiteRtCreateManagedTensorBufferFromRequirements(environment_.get(), type, needs, &made), "make a buffer");
    return Buffer(made);
  }

  // Destroyed from the last to the first.
  Owned<LiteRtEnvironment, LiteRtDestroyEnvironment> environment_;
  Owned<LiteRtModel, LiteRtDestroyModel> model_;
  Owned<LiteRtCompiledModel, LiteRtDestroyCompiledModel> compiled_;
  Buffer input_, output_;
  LiteRtRankedTensorType input_type_, output_type_;
  LiteRtQuantizationPerTensor steps_{};
};
