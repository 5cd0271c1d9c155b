// Runs a protected model with ONNX Runtime's C++ API.
//
//   infer MODEL IDENTITY [--claim KEY=VALUE]... [--tier NAME] [--input FILE] [--log]
//
// FILE has the model's only input as raw floats; otherwise all inputs are zeros. Dimensions that are free are 1. For each
// output its name, shape and sums are printed. Exit codes are the kinds of errors in onnxseal.h.
#include <onnxruntime_cxx_api.h>
#include <onnxseal.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

// What onnxseal makes is released by these.
struct Release {
    void operator()(OnnxsealError *error) const { onnxseal_error_release(error); }
    void operator()(OnnxsealIdentities *identities) const { onnxseal_identities_release(identities); }
    void operator()(OnnxsealOptions *options) const { onnxseal_options_release(options); }
    void operator()(OnnxsealModel *model) const { onnxseal_model_release(model); }
};
template <typename T>
using Owned = std::unique_ptr<T, Release>;

void check(OnnxsealError *error) {
    if (error) throw Owned<OnnxsealError>(error);
}

Owned<OnnxsealModel> open(const char *location, const char *identity, const std::vector<const char *> &claims,
                          const char *tier = nullptr) {
    Owned<OnnxsealIdentities> identities(onnxseal_identities_new());
    check(onnxseal_identities_add_file(identities.get(), identity, nullptr));
    Owned<OnnxsealOptions> options(onnxseal_options_new());
    for (const char *claim : claims) check(onnxseal_options_require_claim(options.get(), claim));
    check(onnxseal_options_set_tier(options.get(), tier));
    OnnxsealModel *model = nullptr;
    check(onnxseal_model_open(location, identities.get(), options.get(), &model));
    return Owned<OnnxsealModel>(model);
}

// Ort::Session makes its session itself; this one takes over another's.
struct Session : Ort::Session {
    explicit Session(OrtSession *session) : Ort::Session(nullptr) { p_ = session; }
};

Session create_session(const OnnxsealModel *model, const Ort::Env &env, const Ort::SessionOptions &options) {
    OrtSession *session = nullptr;
    check(onnxseal_create_session(model, OrtGetApiBase(), env, options, &session));
    return Session(session);
}

std::vector<char> read(const char *path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(std::string("cannot read ") + path);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

size_t width_of(ONNXTensorElementDataType type) {
    switch (type) {
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL:
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8:
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8: return 1;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16:
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16:
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16: return 2;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32:
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32: return 4;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE:
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64: return 8;
        default: throw std::runtime_error("an input has a type that this example does not make");
    }
}

Ort::Value make_input(const Ort::TypeInfo &type, const char *path) {
    auto tensor = type.GetTensorTypeAndShapeInfo();
    std::vector<int64_t> shape = tensor.GetShape();
    for (int64_t &dim : shape) dim = dim < 0 ? 1 : dim;
    size_t width = width_of(tensor.GetElementType());
    Ort::AllocatorWithDefaultOptions allocator;
    Ort::Value value = Ort::Value::CreateTensor(allocator, shape.data(), shape.size(), tensor.GetElementType());
    size_t length = value.GetTensorTypeAndShapeInfo().GetElementCount() * width;
    if (length == 0) return value;
    std::vector<char> bytes = path ? read(path) : std::vector<char>(length);
    if (bytes.size() != length) throw std::runtime_error(std::string(path) + " is not as long as the input");
    std::memcpy(value.GetTensorMutableRawData(), bytes.data(), length);
    return value;
}

double number(Ort::Float16_t element) { return element.ToFloat(); }
template <typename T>
double number(T element) {
    return static_cast<double>(element);
}

template <typename T>
void print_sums(const Ort::Value &output) {
    double sum = 0, squares = 0;
    size_t n = output.GetTensorTypeAndShapeInfo().GetElementCount();
    const T *data = n ? output.GetTensorData<T>() : nullptr;
    for (size_t i = 0; i < n; i++) {
        double element = number(data[i]);
        sum += element;
        squares += element * element;
    }
    std::printf(" sum %.9g of squares %.9g\n", sum, squares);
}

void print(const std::string &name, const Ort::Value &output) {
    if (!output.IsTensor()) {
        std::printf("%s is no tensor\n", name.c_str());
        return;
    }
    auto info = output.GetTensorTypeAndShapeInfo();
    std::printf("%s [", name.c_str());
    const char *separator = "";
    for (int64_t dim : info.GetShape()) {
        std::printf("%s%lld", separator, static_cast<long long>(dim));
        separator = ", ";
    }
    std::printf("]");
    switch (info.GetElementType()) {
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16: return print_sums<Ort::Float16_t>(output);
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT: return print_sums<float>(output);
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE: return print_sums<double>(output);
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64: return print_sums<int64_t>(output);
        default: std::printf(" of another type\n");
    }
}

void run(Session &session, const char *input) {
    Ort::AllocatorWithDefaultOptions allocator;
    std::vector<std::string> names;
    std::vector<Ort::Value> inputs;
    for (size_t i = 0; i < session.GetInputCount(); i++) {
        names.push_back(session.GetInputNameAllocated(i, allocator).get());
        inputs.push_back(make_input(session.GetInputTypeInfo(i), input));
    }
    for (size_t i = 0; i < session.GetOutputCount(); i++)
        names.push_back(session.GetOutputNameAllocated(i, allocator).get());
    std::vector<const char *> c_names;
    for (const std::string &name : names) c_names.push_back(name.c_str());
    const char **output_names = c_names.data() + inputs.size();
    auto outputs = session.Run(Ort::RunOptions(), c_names.data(), inputs.data(), inputs.size(), output_names,
                               c_names.size() - inputs.size());
    for (size_t i = 0; i < outputs.size(); i++) print(output_names[i], outputs[i]);
}

}  // namespace

int main(int argc, char **argv) {
    if (argc < 3) {
        std::fprintf(stderr, "usage: %s MODEL IDENTITY [--claim KEY=VALUE]... [--tier NAME] [--input FILE] [--log]\n", argv[0]);
        return ONNXSEAL_ERROR_KIND_USAGE;
    }
    std::vector<const char *> claims;
    const char *tier = nullptr, *input = nullptr;
    // What ONNX Runtime warns of is shown on request.
    OrtLoggingLevel level = ORT_LOGGING_LEVEL_FATAL;
    for (int i = 3; i < argc; i++) {
        bool more = i + 1 < argc;
        if (!std::strcmp(argv[i], "--claim") && more) claims.push_back(argv[++i]);
        else if (!std::strcmp(argv[i], "--tier") && more) tier = argv[++i];
        else if (!std::strcmp(argv[i], "--input") && more) input = argv[++i];
        else if (!std::strcmp(argv[i], "--log")) level = ORT_LOGGING_LEVEL_WARNING;
        else return ONNXSEAL_ERROR_KIND_USAGE;
    }
    try {
        Ort::Env env(level, "infer");
        // Before the session, so that it is released after it.
        Owned<OnnxsealModel> model = open(argv[1], argv[2], claims, tier);
        Session session = create_session(model.get(), env, Ort::SessionOptions());
        run(session, input);
    } catch (const Owned<OnnxsealError> &error) {
        std::fprintf(stderr, "error: %s\n", onnxseal_error_message(error.get()));
        return onnxseal_error_kind(error.get());
    } catch (const std::exception &error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return ONNXSEAL_ERROR_KIND_INTERNAL;
    }
    return 0;
}
