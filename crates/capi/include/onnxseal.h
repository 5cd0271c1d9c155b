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
  // An internal fault, or something that others failed to give: randomness, memory, a plugin's
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
  // The model does not make the required claims.
  ONNXSEAL_ERROR_KIND_POLICY_NOT_MET = 6,
  // The system failed to read.
  ONNXSEAL_ERROR_KIND_IO = 7,
  // ONNX Runtime is too old, or refuses the model.
  ONNXSEAL_ERROR_KIND_RUNTIME = 8,
  // The model or licence opens from a later date, or opened until an earlier one.
  ONNXSEAL_ERROR_KIND_NOT_IN_FORCE = 9,
} OnnxsealErrorKind;

// The content of a compiled cache, zeroized when it is released.
typedef struct OnnxsealBlob OnnxsealBlob;

// Compiled caches of a model in a folder: sealed there, and opened for ONNX Runtime's execution
// providers by its callbacks. It may be used from any number of threads.
typedef struct OnnxsealEpContext OnnxsealEpContext;

// Why a call failed: a kind to branch on, and a message.
//
// Functions that can fail return `NULL` on success and an error otherwise. The caller releases the
// error with onnxseal_error_release(). An error may be used from any thread.
typedef struct OnnxsealError OnnxsealError;

// A set of secret keys, to open models with; empty at first.
//
// Add keys from one thread at a time, while no other thread uses the handle. Then any number of
// threads may open models with it. The keys are zeroized when the handle is released.
typedef struct OnnxsealIdentities OnnxsealIdentities;

// A key that images are transformed with before a rewritten model is fed them. Any number of threads may
// use it at once. Its seed is zeroized when it is released.
typedef struct OnnxsealInputKey OnnxsealInputKey;

// A table of labels, decrypted with a user's key. Any number of threads may use it at once.
typedef struct OnnxsealLabelDecoder OnnxsealLabelDecoder;

// A protected model, opened. Its graph and claims are authenticated.
//
// Its weights are authenticated and decrypted when they are needed: by onnxseal_create_session(), or
// all at once by the first function that gives bytes of the model, see onnxseal_model_authenticate().
// Until the model is released its files stay open, and must not be overwritten.
//
// It may be used from any number of threads. Pointers that it hands out belong to it and are valid
// until it is released. Bytes that were encrypted are zeroized then.
typedef struct OnnxsealModel OnnxsealModel;

// Demands on a model, and what sessions may do with it. At first there are no demands.
//
// Set options from one thread at a time, while no other thread uses the handle. Then any number of
// threads may open models with it.
typedef struct OnnxsealOptions OnnxsealOptions;

// A model without the weights that session options give to ONNX Runtime.
typedef struct OnnxsealSkeleton OnnxsealSkeleton;

// A file of external data.
typedef struct OnnxsealFile {
  // Relative to the model's folder, with `/` between folders, in UTF-8.
  const char *path;
  // Its content.
  const void *bytes;
  // Its length in bytes.
  size_t length_bytes;
} OnnxsealFile;

// An authentic statement of the publisher about the model.
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
  // Its elements in the layout of ONNX's `raw_data`: little endian, row by row. They may be
  // unaligned.
  const void *bytes;
  // The length of the elements in bytes.
  size_t length_bytes;
} OnnxsealTensor;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Opens the compiled caches of `model` in `folder`. The folder must exist and be for this model alone.
//
// `ort_api_base` is the result of the application's `OrtGetApiBase()`, of ONNX Runtime 1.31 or newer.
// On success the caller releases `*context` with onnxseal_ep_context_release(); on failure it is
// `NULL`. The context does not need the model any longer.
//
// Errors: `IO`; `RUNTIME` when ONNX Runtime is too old; `USAGE`.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_ep_context_open(const struct OnnxsealModel *model,
                                               const char *folder,
                                               const struct OrtApiBase *ort_api_base,
                                               struct OnnxsealEpContext **context);

// Makes sessions with `options` read compiled caches from here
// (`SessionOptionsSetEpContextDataReadFunc`). Keep `context` until options, their copies and
// sessions are released.
//
// Errors: `RUNTIME`, `USAGE`.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_ep_context_set_on_session(const struct OnnxsealEpContext *context,
                                                         struct OrtSessionOptions *options);

// Makes a compilation with `options` write compiled caches to here
// (`ModelCompilationOptions_SetEpContextDataWriteFunc`). Keep `context` until the options are
// released.
//
// Errors: `RUNTIME`, `USAGE`.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_ep_context_set_on_compilation(const struct OnnxsealEpContext *context,
                                                             struct OrtModelCompilationOptions *options);

// Limits files of compiled caches to `max_bytes` bytes from now on. The default is 4 GiB.
//
// Errors: `USAGE`.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_ep_context_set_max_bytes(const struct OnnxsealEpContext *context,
                                                        uint64_t max_bytes);

// Seals `length_bytes` bytes at `content` under `name`. Use it for the compiled model itself, which has
// the weights of all nodes that no provider took.
//
// Errors: `IO`; `MALFORMED` if there are more bytes than the limit; `USAGE` if `name` is not a plain file
// name; `INTERNAL` if there is no memory.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_ep_context_write(const struct OnnxsealEpContext *context,
                                                const char *name,
                                                const void *content,
                                                size_t length_bytes);

// Opens the cache that is sealed under `name`. On success the caller releases `*blob` with
// onnxseal_blob_release(); on failure it is `NULL`.
//
// Errors: `AUTHENTICATION` if the cache was changed, or has another name or another model;
// `MALFORMED` if the file is no sealed cache or is too large; `IO`; `USAGE`; `INTERNAL` if there is no
// memory for it.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_ep_context_read(const struct OnnxsealEpContext *context,
                                               const char *name,
                                               struct OnnxsealBlob **blob);

// The bytes of `blob`, which belong to it. `*length_bytes` is their number. `NULL` if `blob` or
// `length_bytes` is `NULL`.
const void *onnxseal_blob_bytes(const struct OnnxsealBlob *blob, size_t *length_bytes);

// Releases `blob`; does nothing for `NULL`.
void onnxseal_blob_release(struct OnnxsealBlob *blob);

// Releases `context`. No options or sessions may use it any more. Does nothing for `NULL`.
void onnxseal_ep_context_release(struct OnnxsealEpContext *context);

// The kind of `error`; `ONNXSEAL_ERROR_KIND_OK` for `NULL`.
enum OnnxsealErrorKind onnxseal_error_kind(const struct OnnxsealError *error);

// The message of `error` with its causes, on one line of UTF-8; `""` for `NULL`. It belongs to `error`.
const char *onnxseal_error_message(const struct OnnxsealError *error);

// Releases `error`; does nothing for `NULL`.
void onnxseal_error_release(struct OnnxsealError *error);

// Makes an empty set of identities. Release it with onnxseal_identities_release(). Never `NULL`.
struct OnnxsealIdentities *onnxseal_identities_new(void);

// Adds the keys of an identity file: age's, with keys of its own and of plugins, or an OpenSSH
// private key.
//
// `passphrase`, in UTF-8, opens a file that is encrypted with one; `NULL` for other files. Neither text
// is kept, except a passphrase that plugins may ask for.
//
// Errors: `IO`; `USAGE` if the file is no identity file, or if a passphrase is missing;
// `NO_MATCHING_KEY` if the passphrase is wrong.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_identities_add_file(struct OnnxsealIdentities *identities,
                                                   const char *path,
                                                   const char *passphrase);

// Adds the keys of an identity file that is in memory: `length_bytes` bytes at `file`. The caller
// zeroizes them.
//
// `passphrase` and errors are as for onnxseal_identities_add_file().
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_identities_add_memory(struct OnnxsealIdentities *identities,
                                                     const void *file,
                                                     size_t length_bytes,
                                                     const char *passphrase);

// Adds the passphrase, in UTF-8, of models that are protected with one. The caller zeroizes the text.
//
// Errors: `USAGE` if the passphrase is empty or longer than 1024 bytes.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_identities_add_passphrase(struct OnnxsealIdentities *identities,
                                                         const char *passphrase);

// Releases `identities`; does nothing for `NULL`. Models that were opened with them stay open.
void onnxseal_identities_release(struct OnnxsealIdentities *identities);

// Opens a key file. One that is encrypted with age needs `identities`; `NULL` for others.
//
// On success `*key` is the key; release it with onnxseal_input_key_release().
//
// Errors: `IO`; `MALFORMED` if the file is no key; `NO_MATCHING_KEY` if no identity opens it.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_input_key_open(const char *path,
                                              const struct OnnxsealIdentities *identities,
                                              struct OnnxsealInputKey **key);

// Opens an input key in memory: `length_bytes` bytes at `file`, which the caller zeroizes.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_input_key_open_memory(const void *file,
                                                     size_t length_bytes,
                                                     const struct OnnxsealIdentities *identities,
                                                     struct OnnxsealInputKey **key);

// Transforms images where they lie: what an ONNX Runtime session on the original is fed becomes what one on
// the rewritten model is fed.
//
// `values` is an array of shape `dims`, of `n_dims` axes: 3 for one image, or 4 for images one after the
// other. Their order is that of the key's layout. `data_type` is one of ONNX's numbers (TensorProto.DataType):
// FLOAT 1, UINT8 2, INT8 3, UINT16 4 or FLOAT16 10. The array is aligned for it, and no other thread uses it
// meanwhile. Floats are pixels in the key's range, or with `is_normalised` they have been through
// `(x - mean) / std` already, with the key's mean and std.
//
// Errors: `USAGE` if the shape or the type does not go with the key; the images are then as they were.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_input_key_apply(const struct OnnxsealInputKey *key,
                                               const size_t *dims,
                                               size_t n_dims,
                                               int32_t data_type,
                                               bool is_normalised,
                                               void *values);

// Makes plain images of keyed ones where they lie. Arguments and errors are those of
// onnxseal_input_key_apply().
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_input_key_invert(const struct OnnxsealInputKey *key,
                                                const size_t *dims,
                                                size_t n_dims,
                                                int32_t data_type,
                                                bool is_normalised,
                                                void *values);

// Releases `key`; does nothing for `NULL`.
void onnxseal_input_key_release(struct OnnxsealInputKey *key);

// Decrypts the table of labels of a model with a key file, on all cores.
//
// `table` is what the model's metadata has under "onnxseal-labels", as ONNX Runtime gives it. Nothing but the
// protection of the whole model tells that its rows are those of the table. A key that is encrypted with age
// needs `identities`; `NULL` for others.
//
// On success `*decoder` is the decoder; release it with onnxseal_label_decoder_release().
//
// Errors: `IO`; `MALFORMED` if the file is no key, or the text no table; `NO_MATCHING_KEY` if no identity opens the
// file, or the key does not open the table or was revoked; `AUTHENTICATION` if the table was changed.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_label_decoder_open(const char *table,
                                                  const char *path,
                                                  const struct OnnxsealIdentities *identities,
                                                  struct OnnxsealLabelDecoder **decoder);

// Opens a decoder with a key in memory: `length_bytes` bytes at `file`, which the caller zeroizes.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_label_decoder_open_memory(const char *table,
                                                         const void *file,
                                                         size_t length_bytes,
                                                         const struct OnnxsealIdentities *identities,
                                                         struct OnnxsealLabelDecoder **decoder);

// The name of the model's output that has the answers. It stays as long as the decoder; `NULL` if `decoder` is `NULL`.
const char *onnxseal_label_decoder_answers(const struct OnnxsealLabelDecoder *decoder);

// The name that the logits have: that of an output of the original, or of the input of the tail. It stays as long as
// the decoder; `NULL` if `decoder` is `NULL`.
const char *onnxseal_label_decoder_logits(const struct OnnxsealLabelDecoder *decoder);

// What followed the layer in the original, such as Softmax: an ONNX model of `*length_bytes` bytes that takes logits.
// It has no bytes if the original gave logits. It stays as long as the decoder; `NULL` if `decoder` or `length_bytes`
// is `NULL`.
const void *onnxseal_label_decoder_tail(const struct OnnxsealLabelDecoder *decoder,
                                        size_t *length_bytes);

// Makes logits of answers: what the original's layer gives.
//
// `answers` is an array of float32 of shape `dims`, of `n_dims` axes, which the model gave. `logits` is one of the same
// shape, but for the axis of answers: there it has one for each class. `n_logits` is how many floats it has room for.
// With `answers` and `logits` of `NULL`, nothing is decoded. `logit_dims`, if it is not `NULL`, gets the shape of the
// logits, `n_dims` numbers.
//
// The arrays are aligned for what they hold; `logits` shares no memory with `answers`.
//
// Errors: `USAGE` if the shape is not that of the model's answers, or `n_logits` is another number than that of the
// logits; these are then as they were.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_label_decoder_decode(const struct OnnxsealLabelDecoder *decoder,
                                                    const size_t *dims,
                                                    size_t n_dims,
                                                    const float *answers,
                                                    size_t *logit_dims,
                                                    float *logits,
                                                    size_t n_logits);

// Releases `decoder`; does nothing for `NULL`.
void onnxseal_label_decoder_release(struct OnnxsealLabelDecoder *decoder);

// Opens a protected model: authenticates its graph and claims. Its weights are authenticated and
// decrypted when they are needed; at once if the model has less than 16 MiB, or if the system does not
// let the process do that.
//
// `location` is a path, or a URL: `file://`, and in builds with object stores `s3://`, `gs://`
// and `az://`. `options` may be `NULL`. On success the caller releases `*model` with
// onnxseal_model_release(); on failure it is `NULL`. Identities and options may be released
// afterwards.
//
// Errors: all kinds except `RUNTIME`.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_model_open(const char *location,
                                          const struct OnnxsealIdentities *identities,
                                          const struct OnnxsealOptions *options,
                                          struct OnnxsealModel **model);

// Like onnxseal_model_open(), for a model that is in memory: `length_bytes` bytes at `bytes`, and its
// `n_files` files of external data, each under the path that the model has for it. All of it is copied.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_model_open_memory(const void *bytes,
                                                 size_t length_bytes,
                                                 const struct OnnxsealFile *files,
                                                 size_t n_files,
                                                 const struct OnnxsealIdentities *identities,
                                                 const struct OnnxsealOptions *options,
                                                 struct OnnxsealModel **model);

// The model file, decrypted; it names external data as the protected model does. `*length_bytes` is its length.
// `NULL` if `model` or `length_bytes` is `NULL`, or if onnxseal_model_authenticate() fails.
const void *onnxseal_model_bytes(const struct OnnxsealModel *model,
                                 size_t *length_bytes);

// Authenticates and decrypts all of `model` that was not needed yet. It then stays in memory until the
// model is released.
//
// The functions that give bytes, files and tensors do this themselves; where it fails, they give
// `NULL`, or 0 for a number. Call this function first to learn why.
//
// Errors: `AUTHENTICATION` if a byte of the model was changed; `IO`.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_model_authenticate(const struct OnnxsealModel *model);

// The name of the tier that was opened; `NULL` for a model without tiers, or if `model` is `NULL`.
const char *onnxseal_model_tier(const struct OnnxsealModel *model);

// Whether `model` is the original, and not the edition of a tier below the highest; `false` if it is
// `NULL`.
bool onnxseal_model_is_original(const struct OnnxsealModel *model);

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

// Releases `model`. Release all sessions that were made of it first. Does nothing for `NULL`.
void onnxseal_model_release(struct OnnxsealModel *model);

// Makes options without demands. Release them with onnxseal_options_release(). Never `NULL`.
struct OnnxsealOptions *onnxseal_options_new(void);

// Refuses models that do not make this claim. `"customer=acme"` demands this value, `"customer"` any
// value, `"not-after"` a date or time that has not passed, `"not-before"` one that has come. The
// demands of several calls add up.
//
// Errors: `USAGE`.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_options_require_claim(struct OnnxsealOptions *options,
                                                     const char *claim);

// Refuses models that are not signed by a key of this OpenSSH allowed_signers file, which is read now.
//
// `signer` is the signer in that file who must have signed, such as `"release@example.com"`; `NULL` for
// any. Another call replaces this demand.
//
// Errors: `IO`; `USAGE` if the file is no allowed_signers file.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_options_set_allowed_signers(struct OnnxsealOptions *options,
                                                           const char *allowed_signers,
                                                           const char *signer);

// Opens this tier of models that have tiers, such as `"trial"`: exactly this edition, by its own key or by
// that of a higher tier. `"any"` is the highest that an identity opens, and `NULL` the original, as at
// first. Another call replaces this demand.
//
// Tiers below the highest are not the original: see onnxseal_model_is_original(). Without this call they
// are refused with `NO_MATCHING_KEY`. A tier that a model does not have, and every tier of a model
// without tiers, is refused with `POLICY_NOT_MET`; `"any"` is not.
//
// Errors: `USAGE`.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_options_set_tier(struct OnnxsealOptions *options,
                                                const char *tier);

// Opens models with this licence, a file that is read now, instead of their own keys; `NULL` for the one
// that the environment variable `ONNXSEAL_LICENCE` names, or that lies beside the model as
// `MODEL.licence`, as at first. Another call replaces it.
//
// A model that it does not list is refused with `NO_MATCHING_KEY`, and every model before its first or
// after its last day with `NOT_IN_FORCE`.
//
// Errors: `IO`; `USAGE`; `MALFORMED` if the file is no licence.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_options_set_licence(struct OnnxsealOptions *options,
                                                   const char *licence);

// With `allowed`, ONNX Runtime may write models that are opened with these options to files, in clear,
// if its session options say so: an optimized model, compiled models. Otherwise it writes no optimized
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
// `ort_api_base` is the result of the application's `OrtGetApiBase()`, of ONNX Runtime 1.21 or newer.
// `env` is an environment of it. `options` has the session's settings: providers, threads, custom
// operators. It may be `NULL` and is not changed. On success the caller releases `*session` with ONNX
// Runtime's `ReleaseSession`; on failure it is `NULL`.
//
// Keep `model` until the session is released: if ONNX Runtime can, it uses weights where they lie in
// `model`, without a copy. It can if its library has providers for the processor alone. Otherwise all
// weights are copied, and onnxseal_prepare_session() lets the application choose. If optimizers have
// to read a weight that is not copied, the session is created a second time, with copies. ONNX Runtime
// then logs a harmless error for the first attempt.
//
// ONNX Runtime writes no optimized model, whatever `options` say. Options that make it write the model
// in other ways are refused: see onnxseal_options_allow_plaintext_on_disk().
//
// Several threads may create sessions of a model at once, and use them.
//
// Weights are authenticated and decrypted while ONNX Runtime goes through them, and all of them before
// the session is returned. If the system allows that, the session takes the memory of a plain model's:
// weights that ONNX Runtime has packed are given back, and decrypted anew from the file if they are
// needed again. If the file was overwritten meanwhile, the process aborts with a message; so it does
// while a second session of `model` is created.
//
// Errors: `AUTHENTICATION` if the model was changed; `RUNTIME` if ONNX Runtime is too old or refuses
// the model; `IO`; `USAGE`, also for options that onnxseal_prepare_session() has given the weights of a
// model.
ONNXSEAL_MUST_USE
struct OnnxsealError *onnxseal_create_session(const struct OnnxsealModel *model,
                                              const struct OrtApiBase *ort_api_base,
                                              const struct OrtEnv *env,
                                              const struct OrtSessionOptions *options,
                                              struct OrtSession **session);

// Prepares session options for a session that the application creates itself, and gives the bytes to
// create it from.
//
// `options` gets weights of `model` and configuration entries. Create sessions with it only from the
// bytes of `*skeleton`. Make new options for another model: options that have weights already are
// refused. The path of an optimized model is taken out of `options`, see
// onnxseal_options_allow_plaintext_on_disk(). The caller releases the skeleton with
// onnxseal_skeleton_release() as soon as the session is there. On failure it is `NULL`, and the
// options must not be used.
//
// With `share_memory`, weights are used where they lie in `model`: where ONNX Runtime's optimizers
// have to look into one, creating the session fails; do it again with new options and `false`. Keep
// `model` until options and session are released.
//
// Errors: as for onnxseal_create_session().
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

// The version of the library, such as `"0.1.0"`; `ONNXSEAL_VERSION` is the header's version. Do not
// release it.
const char *onnxseal_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ONNXSEAL_H */
