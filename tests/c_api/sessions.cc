// Sessions beyond those of the example, for tests/python/test_c_api.py:
//
//   sessions MODEL IDENTITY after COMMAND    runs a command between opening the model and creating the session
//   sessions MODEL IDENTITY prepare [INPUT]  has the application create the session: says if weights were shared
//   sessions MODEL IDENTITY threads          threads create sessions of one model at once, and all compute the same
//   sessions MODEL IDENTITY used OTHER       with the options of a session that was prepared of another model
//   sessions MODEL IDENTITY writes FILE      with options that have an optimized model written
//   sessions MODEL IDENTITY allowed FILE     the same, of a model that may be written
//   sessions MODEL IDENTITY entry KEY        with options that have an entry of the value 1
//   sessions MODEL IDENTITY custom           with an operator of its own: test.custom's Double
#define main example_main
#include "infer.cc"
#undef main

#include <onnxruntime_lite_custom_op.h>

#include <cstdlib>
#include <mutex>
#include <thread>

namespace {

void twice(const Ort::Custom::Tensor<float> &input, Ort::Custom::Tensor<float> &output) {
    float *doubled = output.Allocate(input.Shape());
    for (int64_t i = 0; i < input.NumberOfElement(); i++) doubled[i] = 2 * input.Data()[i];
}

Session prepare(const OnnxsealModel *model, const Ort::Env &env, bool share) {
    Ort::SessionOptions options;
    OnnxsealSkeleton *skeleton = nullptr;
    check(onnxseal_prepare_session(model, OrtGetApiBase(), options, share, &skeleton));
    size_t length = 0;
    const void *bytes = onnxseal_skeleton_bytes(skeleton, &length);
    OrtSession *session = nullptr;
    OrtStatus *status = Ort::GetApi().CreateSessionFromArray(env, bytes, length, options, &session);
    onnxseal_skeleton_release(skeleton);
    Ort::ThrowOnError(status);
    Session owned(session);
    return owned;
}

// The sum of the first output, which is all that threads compare.
double first_sum(Session &session) {
    Ort::AllocatorWithDefaultOptions allocator;
    std::vector<std::string> names;
    std::vector<const char *> c_names;
    std::vector<Ort::Value> inputs;
    for (size_t i = 0; i < session.GetInputCount(); i++) {
        names.push_back(session.GetInputNameAllocated(i, allocator).get());
        inputs.push_back(make_input(session.GetInputTypeInfo(i), nullptr));
    }
    for (const std::string &name : names) c_names.push_back(name.c_str());
    auto output = session.GetOutputNameAllocated(0, allocator);
    const char *output_name = output.get();
    auto outputs = session.Run(Ort::RunOptions(), c_names.data(), inputs.data(), inputs.size(), &output_name, 1);
    double sum = 0;
    for (size_t i = 0; i < outputs[0].GetTensorTypeAndShapeInfo().GetElementCount(); i++)
        sum += outputs[0].GetTensorData<float>()[i];
    return sum;
}

bool agree(const OnnxsealModel *model, const Ort::Env &env) {
    std::vector<std::thread> threads;
    std::vector<double> sums;
    std::mutex mutex;
    for (int i = 0; i < 4; i++)
        threads.emplace_back([&] {
            for (int n = 0; n < 3; n++) {
                Session session = create_session(model, env, Ort::SessionOptions());
                double sum = first_sum(session);
                std::lock_guard<std::mutex> lock(mutex);
                sums.push_back(sum);
            }
        });
    for (std::thread &thread : threads) thread.join();
    for (double sum : sums)
        if (sum != sums[0]) return false;
    return sums.size() == 12;
}

}  // namespace

int main(int argc, char **argv) try {
    std::string mode = argv[3];
    Ort::Env env(ORT_LOGGING_LEVEL_FATAL, "sessions");
    Owned<OnnxsealModel> model = open(argv[1], argv[2], {});
    Ort::SessionOptions options;
    std::unique_ptr<Ort::Custom::OrtLiteCustomOp> op(
        Ort::Custom::CreateLiteCustomOp("Double", "CPUExecutionProvider", twice));
    Ort::CustomOpDomain domain("test.custom");
    domain.Add(op.get());
    if (mode == "threads") {
        std::printf("%s\n", agree(model.get(), env) ? "the same" : "not the same");
        return 0;
    }
    if (mode == "prepare") {
        Session session{nullptr};
        try {
            session = prepare(model.get(), env, true);
            std::printf("shared\n");
        } catch (const Ort::Exception &) {
            session = prepare(model.get(), env, false);
            std::printf("copied\n");
        }
        run(session, argc > 4 ? argv[4] : nullptr);
        return 0;
    }
    if (mode == "used") {
        Owned<OnnxsealModel> other = open(argv[4], argv[2], {});
        OnnxsealSkeleton *skeleton = nullptr;
        check(onnxseal_prepare_session(other.get(), OrtGetApiBase(), options, true, &skeleton));
        onnxseal_skeleton_release(skeleton);
        // Nor can they be prepared once more.
        Owned<OnnxsealError> error(onnxseal_prepare_session(model.get(), OrtGetApiBase(), options, true, &skeleton));
        if (onnxseal_error_kind(error.get()) != ONNXSEAL_ERROR_KIND_USAGE || skeleton) return 99;
    }
    if (mode == "writes" || mode == "allowed") options.SetOptimizedModelFilePath(argv[4]);
    if (mode == "entry") options.AddConfigEntry(argv[4], "1");
    if (mode == "allowed") {
        Owned<OnnxsealIdentities> identities(onnxseal_identities_new());
        check(onnxseal_identities_add_file(identities.get(), argv[2], nullptr));
        Owned<OnnxsealOptions> opening(onnxseal_options_new());
        check(onnxseal_options_allow_plaintext_on_disk(opening.get(), true));
        OnnxsealModel *opened = nullptr;
        check(onnxseal_model_open(argv[1], identities.get(), opening.get(), &opened));
        model.reset(opened);
    }
    if (mode == "custom") options.Add(domain);
    if (mode == "after" && (argc != 5 || std::system(argv[4]) != 0)) throw std::runtime_error("the command failed");
    Session session = create_session(model.get(), env, options);
    run(session, nullptr);
    return 0;
} catch (const Owned<OnnxsealError> &error) {
    std::fprintf(stderr, "error: %s\n", onnxseal_error_message(error.get()));
    return onnxseal_error_kind(error.get());
} catch (const std::exception &error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return ONNXSEAL_ERROR_KIND_INTERNAL;
}
