#ifndef ONNXSEAL_H
#define ONNXSEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The version of this header; onnxseal_version() is that of the library. */
#define ONNXSEAL_VERSION "0.1.0"

#if defined(__GNUC__) || defined(__clang__)
#define ONNXSEAL_MUST_USE __attribute__((warn_unused_result))
#else
#define ONNXSEAL_MUST_USE
#endif

/* Those of onnxruntime_c_api.h. */
struct OrtApiBase;
struct OrtEnv;
struct OrtModelCompilationOptions;
struct OrtSession;
struct OrtSessionOptions;


// The class of an error. The numbers are the exit codes of the command `onnxseal`, as far as it has
// them. Later versions may add more.
typedef enum OnnxsealErrorKind {
  // No error.
  ONNXSEAL_ERROR_KIND_OK = 0,
  // Something that should not happen, or that others do not give: randomness, memory, a plugin's
  // answer.
  ONNXSEAL_ERROR_KIND_INTERNAL = 1,
  // The call cannot be carried out as asked: an argument is `NULL` or makes no sense.
  ONNXSEAL_ERROR_KIND_USAGE = 2,
  // The input is malformed or exceeds a limit.
  ONNXSEAL_ERROR_KIND_MALFORMED = 3,
  // Something was changed since it was protected.
  ONNXSEAL_ERROR_KIND_AUTHENTICATION = 4,
  // No identity opens the model.
  ONNXSEAL_ERROR_KIND_NO_MATCHING_KEY = 5,
  // The model does not make the claims that are required of it.
  ONNXSEAL_ERROR_KIND_POLICY_NOT_MET = 6,
  // The system failed to read.
  ONNXSEAL_ERROR_KIND_IO = 7,
  // ONNX Runtime is too old, or refuses the model.
  ONNXSEAL_ERROR_KIND_RUNTIME = 8,
} OnnxsealErrorKind;

// The content of a compiled cache, zeroized when it is released.
typedef struct OnnxsealBlob OnnxsealBlob;

// Compiled caches of a model in a folder: sealed there, and opened for ONNX Runtime's execution
// providers by its callbacks. It may be used from any number of threads.
typedef struct OnnxsealEpContext OnnxsealEpContext;

// Why a call failed: a kind to branch on, and a message.
//
// Functions that can fail return `NULL` when they succeed and an error of the caller's otherwise,
// to be released with onnxseal_error_release(). An error may be used from any thread.
typedef struct OnnxsealError OnnxsealError;

// Secret keys of which one opens a model; none at first.
//
// Keys are added by one thread at a time, while no other uses the handle; then any number of threads
// may open models with it. What it holds is zeroized when it is released.
typedef struct OnnxsealIdentities OnnxsealIdentities;

// A protected model in memory: authenticated as a whole, and decrypted.
//
// It does not change, and may be used from any number of threads. What it hands out belongs to it
// and is valid until it is released; what was encrypted is zeroized then.
typedef struct OnnxsealModel OnnxsealModel;

// What is demanded of a model, and what sessions may do with it. At first nothing is demanded.
//
// Set by one thread at a time, while no other uses the handle; then any number of threads may open
// models with it.
typedef struct OnnxsealOptions OnnxsealOptions;

// A model without the weights that ONNX Runtime gets by its session options.
typedef struct OnnxsealSkeleton OnnxsealSkeleton;

// A file of external data.
typedef struct OnnxsealFile {
  // Relative to the model's folder, with `/` between folders, in UTF-8.
  const char *path;
  // Its content.
  const void *bytes;
  // How long it is.
  size_t length_bytes;
} OnnxsealFile;

// A statement that the publisher made of the model, authentic.
typedef struct OnnxsealClaim {
  // Such as `"customer"`.
  const char *key;
  // Such as `"acme"`.
  const char *value;
} OnnxsealClaim;

// A weight tensor of a model.
typedef struct OnnxsealTensor {
  // Its name in the graph.
  const char *name;
  // The number of its type in ONNX's `TensorProto.DataType`: 1 is float.
  int32_t data_type;
  // How many dimensions it has.
  size_t n_dims;
  // Its dimensions.
  const int64_t *dims;
  // Its elements as ONNX's `raw_data` has them: little endian, row by row. They need not be
  // aligned.
  const void *bytes;
  // How many bytes they are.
  size_t length_bytes;
} OnnxsealTensor;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Opens the compiled caches of `model` in `folder`, which exists and is for this model alone.
//
// `ort_api_base` is what the application's `OrtGetApiBase()` returns, of ONNX Runtime 1.31 or newer.
// On success `*context` is the caller's, to be released with onnxseal_ep_context_release(); on
// failure it is `NULL`. It does not need the model any longer.
//
// Errors: `IO`; `RUNTIME` when ONNX Runtime is too old; `USAGE`.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_ep_context_open(const struct OnnxsealModel *model,
                                               const char *folder,
                                               const struct OrtApiBase *ort_api_base,
                                               struct OnnxsealEpContext **context);

// Has sessions with `options` read compiled caches here
// (`SessionOptionsSetEpContextDataReadFunc`). Keep `context` until options, their copies and
// sessions are released.
//
// Errors: `RUNTIME`, `USAGE`.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_ep_context_set_on_session(const struct OnnxsealEpContext *context,
                                                         struct OrtSessionOptions *options);

// Has a compilation with `options` write compiled caches here
// (`ModelCompilationOptions_SetEpContextDataWriteFunc`). Keep `context` until the options are
// released.
//
// Errors: `RUNTIME`, `USAGE`.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_ep_context_set_on_compilation(const struct OnnxsealEpContext *context,
                                                             struct OrtModelCompilationOptions *options);

// Takes files of compiled caches of `max_bytes` bytes at most, from now on; 4 GiB unless this is called.
//
// Errors: `USAGE`.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_ep_context_set_max_bytes(const struct OnnxsealEpContext *context,
                                                        uint64_t max_bytes);

// Seals `length_bytes` bytes at `content` under `name`: for the compiled model itself, which has the
// weights of all nodes that no provider took.
//
// Errors: `IO`; `MALFORMED` for more bytes than are taken; `USAGE` for what is no plain file name;
// `INTERNAL` where there is no memory.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_ep_context_write(const struct OnnxsealEpContext *context,
                                                const char *name,
                                                const void *content,
                                                size_t length_bytes);

// Opens what is sealed under `name`. On success `*blob` is the caller's, to be released with
// onnxseal_blob_release(); on failure it is `NULL`.
//
// Errors: `AUTHENTICATION` where it was changed, is another's, or of another model; `MALFORMED` where it
// is none or too large; `IO`; `USAGE`; `INTERNAL` where there is no memory for it.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_ep_context_read(const struct OnnxsealEpContext *context,
                                               const char *name,
                                               struct OnnxsealBlob **blob);

// The bytes of `blob`, which belong to it. `*length_bytes` is their number. `NULL` if `blob` or
// `length_bytes` is `NULL`.
const void *onnxseal_blob_bytes(const struct OnnxsealBlob *blob, size_t *length_bytes);

// Releases `blob`; does nothing for `NULL`.
void onnxseal_blob_release(struct OnnxsealBlob *blob);

// Releases `context`, which no options and sessions use any more; does nothing for `NULL`.
void onnxseal_ep_context_release(struct OnnxsealEpContext *context);

// The kind of `error`; `ONNXSEAL_ERROR_KIND_OK` for `NULL`.
enum OnnxsealErrorKind onnxseal_error_kind(const struct OnnxsealError *error);

// What went wrong with its causes, on one line of UTF-8; `""` for `NULL`. It belongs to `error`.
const char *onnxseal_error_message(const struct OnnxsealError *error);

// Releases `error`; does nothing for `NULL`.
void onnxseal_error_release(struct OnnxsealError *error);

// Makes an empty set of identities, to be released with onnxseal_identities_release(). Never `NULL`.
struct OnnxsealIdentities *onnxseal_identities_new(void);

// Adds the keys of an identity file: age's, with keys of its own and of plugins, or an OpenSSH
// private key.
//
// `passphrase`, in UTF-8, is that of a file that is encrypted with one; `NULL` otherwise. Neither
// text is kept, but for a passphrase that plugins may ask for.
//
// Errors: `IO`; `USAGE` for what is no identity file, and where a passphrase is missing;
// `NO_MATCHING_KEY` where it is another.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_identities_add_file(struct OnnxsealIdentities *identities,
                                                   const char *path,
                                                   const char *passphrase);

// Adds the keys of an identity file that is in memory: `length_bytes` bytes at `file`, which the
// caller zeroizes.
//
// `passphrase` and errors are those of onnxseal_identities_add_file().
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_identities_add_memory(struct OnnxsealIdentities *identities,
                                                     const void *file,
                                                     size_t length_bytes,
                                                     const char *passphrase);

// Adds the passphrase, in UTF-8, of models that are protected with one. The caller zeroizes the text.
//
// Errors: `USAGE` for an empty one, and for more than 1024 bytes.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_identities_add_passphrase(struct OnnxsealIdentities *identities,
                                                         const char *passphrase);

// Releases `identities`; does nothing for `NULL`. Models that were opened with them stay open.
void onnxseal_identities_release(struct OnnxsealIdentities *identities);

// Opens a protected model into memory: verifies every byte of its files and decrypts what is
// encrypted.
//
// `location` is a path, or a URL: `file://`, and in builds that reach object stores `s3://`, `gs://`
// and `az://`. `options` may be `NULL`. On success `*model` is a model of the caller's, to be
// released with onnxseal_model_release(); on failure it is `NULL`. Identities and options may be
// released afterwards.
//
// Errors: all kinds but `RUNTIME`.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_model_open(const char *location,
                                          const struct OnnxsealIdentities *identities,
                                          const struct OnnxsealOptions *options,
                                          struct OnnxsealModel **model);

// The same for a model that is in memory: `length_bytes` bytes at `bytes`, and its `n_files` files of
// external data, each under the path that the model has for it. All of it is copied.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_model_open_memory(const void *bytes,
                                                 size_t length_bytes,
                                                 const struct OnnxsealFile *files,
                                                 size_t n_files,
                                                 const struct OnnxsealIdentities *identities,
                                                 const struct OnnxsealOptions *options,
                                                 struct OnnxsealModel **model);

// The model file, decrypted; it names external data as the protected model does. `*length_bytes` is its length.
// `NULL` if `model` or `length_bytes` is `NULL`.
const void *onnxseal_model_bytes(const struct OnnxsealModel *model,
                                 size_t *length_bytes);

// How many files of external data the model has.
size_t onnxseal_model_n_external_files(const struct OnnxsealModel *model);

// The file of external data at `index`, decrypted; `NULL` beyond the last.
const struct OnnxsealFile *onnxseal_model_external_file(const struct OnnxsealModel *model,
                                                        size_t index);

// How many claims the model makes.
size_t onnxseal_model_n_claims(const struct OnnxsealModel *model);

// The claim at `index`, in the order of keys; `NULL` beyond the last.
const struct OnnxsealClaim *onnxseal_model_claim(const struct OnnxsealModel *model, size_t index);

// The value of the claim `key`; `NULL` if the model does not make it.
const char *onnxseal_model_find_claim(const struct OnnxsealModel *model, const char *key);

// How many weight tensors the model has.
size_t onnxseal_model_n_tensors(const struct OnnxsealModel *model);

// The weight tensor at `index`; `NULL` beyond the last.
const struct OnnxsealTensor *onnxseal_model_tensor(const struct OnnxsealModel *model, size_t index);

// The first weight tensor called `name`; `NULL` if there is none.
const struct OnnxsealTensor *onnxseal_model_find_tensor(const struct OnnxsealModel *model,
                                                        const char *name);

// Releases `model`, for which no session that was made of it may be left; does nothing for `NULL`.
void onnxseal_model_release(struct OnnxsealModel *model);

// Makes options that demand nothing, to be released with onnxseal_options_release(). Never `NULL`.
struct OnnxsealOptions *onnxseal_options_new(void);

// Refuses models that do not make this claim: `"customer=acme"` demands the value, `"customer"` any
// value, `"not-after"` and `"not-before"` a date or time that has not passed, or has come. Several
// calls add up.
//
// Errors: `USAGE`.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_options_require_claim(struct OnnxsealOptions *options,
                                                     const char *claim);

// Refuses models that are not signed by a key of this OpenSSH allowed_signers file, which is read now.
//
// `signer` is the one of them who must have signed, such as `"release@example.com"`; `NULL` for any.
// Another call replaces the demand of the last.
//
// Errors: `IO`; `USAGE` for what is no such file.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_options_require_signature(struct OnnxsealOptions *options,
                                                         const char *allowed_signers,
                                                         const char *signer);

// With `allowed`, ONNX Runtime may write models that are opened with these options to files, in clear,
// where its session options say so: an optimized model, compiled ones. Otherwise it writes no optimized
// model, and session options with `ep.context_enable` or `session.debug_layout_transformation` are
// refused.
//
// Errors: `USAGE`.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_options_allow_plaintext_on_disk(struct OnnxsealOptions *options,
                                                               bool allowed);

// Releases `options`; does nothing for `NULL`. Models that were opened with them stay open.
void onnxseal_options_release(struct OnnxsealOptions *options);

// Creates an ONNX Runtime session of `model`.
//
// `ort_api_base` is what the application's `OrtGetApiBase()` returns, of ONNX Runtime 1.21 or newer;
// `env` is an environment of it, and `options`, which may be `NULL` and is not changed, says how the
// session shall be: providers, threads, custom operators. On success `*session` is a session of the
// caller's, to be released with ONNX Runtime's `ReleaseSession`; on failure it is `NULL`.
//
// Keep `model` until the session is released: weights are used where they lie in it, without a
// copy, where ONNX Runtime can do that. It can where its library has providers for the processor
// alone; otherwise all are copied, and onnxseal_prepare_session() lets the application choose. Where
// optimizers have to look into a weight that is not copied, the session is created a second time,
// with copies: what ONNX Runtime logs of the first attempt is no error then.
//
// ONNX Runtime writes no optimized model, whatever `options` say, and options that have it write the
// model in other ways are refused: see onnxseal_options_allow_plaintext_on_disk().
//
// Several threads may create sessions of a model at once, and use them.
//
// Errors: `RUNTIME` when ONNX Runtime is too old or refuses the model; `IO` when files of the model
// that are used where they lie were changed since it was opened; `USAGE`, also for options that
// onnxseal_prepare_session() has given the weights of a model.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_create_session(const struct OnnxsealModel *model,
                                              const struct OrtApiBase *ort_api_base,
                                              const struct OrtEnv *env,
                                              const struct OrtSessionOptions *options,
                                              struct OrtSession **session);

// Prepares session options for a session that the application creates itself, and gives it the bytes
// to create it from.
//
// `options` gets weights of `model` and configuration entries; create sessions with it only from the
// bytes of `*skeleton`, and make new options for another model: those that have weights already are
// refused. What `options` say of an optimized model is taken out, see
// onnxseal_options_allow_plaintext_on_disk(). The skeleton is the caller's, to be released with
// onnxseal_skeleton_release() as soon as the session is there; on failure it is `NULL`, and the
// options are not to be used.
//
// With `share_memory`, weights are used where they lie in `model`: where ONNX Runtime's optimizers
// have to look into one, creating the session fails; do it again with new options and `false`. Keep
// `model` until options and session are released.
//
// Errors: those of onnxseal_create_session().
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_prepare_session(const struct OnnxsealModel *model,
                                               const struct OrtApiBase *ort_api_base,
                                               struct OrtSessionOptions *options,
                                               bool share_memory,
                                               struct OnnxsealSkeleton **skeleton);

// The bytes of `skeleton`, which belong to it. `*length_bytes` is their number. `NULL` if `skeleton`
// or `length_bytes` is `NULL`.
const void *onnxseal_skeleton_bytes(const struct OnnxsealSkeleton *skeleton,
                                    size_t *length_bytes);

// Releases `skeleton`; does nothing for `NULL`.
void onnxseal_skeleton_release(struct OnnxsealSkeleton *skeleton);

// The version of the library, such as `"0.1.0"`; `ONNXSEAL_VERSION` is that of the header. It is
// never released.
const char *onnxseal_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ONNXSEAL_H */
