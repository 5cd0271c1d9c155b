/* Prints what the publisher states of a protected model, and its weights: claims MODEL IDENTITY */
#include <inttypes.h>
#include <onnxseal.h>
#include <stdio.h>

static int failed(OnnxsealError *error) {
    int kind = onnxseal_error_kind(error);
    fprintf(stderr, "error: %s\n", onnxseal_error_message(error));
    onnxseal_error_release(error);
    return kind;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s MODEL IDENTITY\n", argv[0]);
        return ONNXSEAL_ERROR_KIND_USAGE;
    }
    OnnxsealIdentities *identities = onnxseal_identities_new();
    OnnxsealModel *model = NULL;
    OnnxsealError *error = onnxseal_identities_add_file(identities, argv[2], NULL);
    if (!error) error = onnxseal_model_open(argv[1], identities, NULL, &model);
    if (!error) error = onnxseal_model_authenticate(model);
    onnxseal_identities_release(identities);
    if (error) {
        onnxseal_model_release(model);
        return failed(error);
    }
    for (size_t i = 0; i < onnxseal_model_n_claims(model); i++) {
        const OnnxsealClaim *claim = onnxseal_model_claim(model, i);
        printf("claim %s=%s\n", claim->key, claim->value);
    }
    for (size_t i = 0; i < onnxseal_model_n_tensors(model); i++) {
        const OnnxsealTensor *tensor = onnxseal_model_tensor(model, i);
        printf("tensor %s type %" PRId32 " [", tensor->name, tensor->data_type);
        for (size_t d = 0; d < tensor->n_dims; d++) printf("%s%" PRId64, d ? ", " : "", tensor->dims[d]);
        printf("] %zu bytes\n", tensor->length_bytes);
    }
    onnxseal_model_release(model);
    return 0;
}
