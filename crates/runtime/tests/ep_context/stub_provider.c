/* A plugin execution provider for tests: it runs Mul by a constant, and "compiles" it to an EPContext node.
 *
 * What it compiles is a header and the weights as they are, so that a test sees at once whether a compiled cache
 * reached the disk in clear. It does with the callbacks for compiled caches what a provider for real hardware does:
 * takes them from the session options (OrtEpApi), says that it supports them, writes when it compiles, reads when it
 * loads. Without a callback it uses plain files, as those do.
 *
 * It includes no header of ONNX Runtime: its tables only grow at their ends, so functions are known by their slots.
 * Session config entries steer it:
 *
 *   stub.folder     where plain files go without callbacks
 *   stub.name       the name of the compiled cache, instead of stub_<i>_ctx.bin
 *   stub.no_support 1: it does not say that it supports the callbacks
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define API_VERSION 31
#define NAME "OnnxsealStubProvider"
#define MAGIC "STUBCTX1"
#define MAGIC_BYTES 8
#define CODE_EP_FAIL 11
#define ATTR_INT 1
#define ATTR_STRING 5

typedef struct Status Status;
typedef const void *Table;

typedef struct Allocator {
  uint32_t version;
  void *(*alloc)(struct Allocator *, size_t);
  void (*free)(struct Allocator *, void *);
} Allocator;

typedef Status *(*ReadFunc)(void *, const char *, Allocator *, void **, size_t *);
typedef Status *(*WriteFunc)(void *, const char *, const void *, size_t);

/* OrtApi */
enum {
  CREATE_STATUS = 0,
  GET_TENSOR_MUTABLE_DATA = 51,
  GET_ALLOCATOR_WITH_DEFAULT_OPTIONS = 78,
  KERNEL_CONTEXT_GET_INPUT = 90,
  KERNEL_CONTEXT_GET_OUTPUT = 91,
  CREATE_OP_ATTR = 211,
  RELEASE_OP_ATTR = 212,
  HAS_SESSION_CONFIG_ENTRY = 237,
  GET_SESSION_CONFIG_ENTRY = 238,
  READ_OP_ATTR = 272,
  GET_VALUE_INFO_NAME = 289,
  GET_MODEL_EDITOR_API = 291,
  HARDWARE_DEVICE_TYPE = 307,
  GET_EP_API = 317,
  GET_TENSOR_SIZE_IN_BYTES = 318,
  VALUE_INFO_GET_INITIALIZER_VALUE = 326,
  VALUE_INFO_IS_CONSTANT_INITIALIZER = 331,
  GRAPH_GET_NUM_NODES = 344,
  GRAPH_GET_NODES = 345,
  NODE_GET_NAME = 349,
  NODE_GET_OPERATOR_TYPE = 350,
  NODE_GET_NUM_INPUTS = 353,
  NODE_GET_INPUTS = 354,
  NODE_GET_NUM_OUTPUTS = 355,
  NODE_GET_OUTPUTS = 356,
  NODE_GET_ATTRIBUTE_BY_NAME = 361,
};
/* OrtModelEditorApi */
enum { CREATE_NODE = 6 };
/* OrtEpApi */
enum {
  CREATE_EP_DEVICE = 0,
  ADD_NODES_TO_FUSE = 2,
  GET_EP_CONTEXT_CONFIG = 74,
  RELEASE_EP_CONTEXT_CONFIG = 75,
  GET_READ_FUNC = 76,
  GET_WRITE_FUNC = 77,
};
/* OrtEp */
enum {
  EP_GET_NAME = 1,
  EP_GET_CAPABILITY = 2,
  EP_COMPILE = 3,
  EP_RELEASE_NODE_COMPUTE_INFOS = 4,
  EP_GET_EP_CONTEXT_DATA_SUPPORT = 26,
};
/* OrtEpFactory */
enum {
  FACTORY_GET_NAME = 1,
  FACTORY_GET_VENDOR = 2,
  FACTORY_GET_SUPPORTED_DEVICES = 3,
  FACTORY_CREATE_EP = 4,
  FACTORY_RELEASE_EP = 5,
  FACTORY_GET_VENDOR_ID = 6,
  FACTORY_GET_VERSION = 7,
  FACTORY_CREATE_DATA_TRANSFER = 11,
  FACTORY_IS_STREAM_AWARE = 12,
};

/* The function in a slot of a table. */
#define AT(table, slot, result, ...) ((result(*)(__VA_ARGS__))(((void *const *)(table))[slot]))
#define API(slot, ...) AT(ort, slot, Status *, __VA_ARGS__)
#define TRY(call) \
  do { \
    Status *status_ = (call); \
    if (status_ != NULL) return status_; \
  } while (0)

static Table ort;

static Status *fail(const char *message) {
  return API(CREATE_STATUS, int, const char *)(CODE_EP_FAIL, message);
}

/* A table that ONNX Runtime calls: the version, then functions; null is "not implemented". */
typedef struct {
  uint32_t version;
  void *slots[63];
} Functions;

#define SET(functions, slot, function) ((functions).slots[(slot) - 1] = (void *)(function))

typedef struct {
  Functions functions;
  bool compiles;
  bool no_support;
  char folder[512];
  char name[128];
  void *config;
  ReadFunc read;
  void *read_state;
  WriteFunc write;
  void *write_state;
} Ep;

/* The computation of one node: y = x * weights. */
typedef struct {
  uint32_t version;
  Status *(*create_state)(void *, void *, void **);
  Status *(*compute)(void *, void *, void *);
  void (*release_state)(void *, void *);
  size_t n;
  float *weights;
} Computation;

/* --- plain files, where there are no callbacks --- */

static Status *write_file(const Ep *ep, const char *name, const void *data, size_t len) {
  char path[1024];
  snprintf(path, sizeof path, "%s/%s", ep->folder, name);
  FILE *file = fopen(path, "wb");
  if (file == NULL) return fail("stub: cannot write a plain file");
  size_t n = fwrite(data, 1, len, file);
  return fclose(file) == 0 && n == len ? NULL : fail("stub: cannot write a plain file");
}

static Status *read_file(const Ep *ep, const char *name, void **data, size_t *len) {
  char path[1024];
  snprintf(path, sizeof path, "%s/%s", ep->folder, name);
  FILE *file = fopen(path, "rb");
  if (file == NULL) return fail("stub: cannot read a plain file");
  fseek(file, 0, SEEK_END);
  *len = (size_t)ftell(file);
  rewind(file);
  *data = malloc(*len + 1);
  size_t n = fread(*data, 1, *len, file);
  fclose(file);
  return n == *len ? NULL : fail("stub: cannot read a plain file");
}

/* --- computing --- */

static Status *create_state(void *self, void *context, void **state) {
  (void)context;
  *state = self;
  return NULL;
}

static void release_state(void *self, void *state) {
  (void)self;
  (void)state;
}

static Status *compute(void *self, void *state, void *context) {
  (void)state;
  const Computation *computation = self;
  const void *input = NULL;
  void *output = NULL;
  float *x = NULL, *y = NULL;
  int64_t dims[1] = {(int64_t)computation->n};
  TRY(API(KERNEL_CONTEXT_GET_INPUT, const void *, size_t, const void **)(context, 0, &input));
  TRY(API(GET_TENSOR_MUTABLE_DATA, const void *, float **)(input, &x));
  TRY(API(KERNEL_CONTEXT_GET_OUTPUT, void *, size_t, const int64_t *, size_t, void **)(context, 0, dims, 1, &output));
  TRY(API(GET_TENSOR_MUTABLE_DATA, const void *, float **)(output, &y));
  for (size_t i = 0; i < computation->n; i++) y[i] = x[i] * computation->weights[i];
  return NULL;
}

static Status *computation_of(const float *weights, size_t n, void **out) {
  Computation *computation = calloc(1, sizeof *computation);
  computation->version = API_VERSION;
  computation->create_state = create_state;
  computation->compute = compute;
  computation->release_state = release_state;
  computation->n = n;
  computation->weights = malloc(n * sizeof(float) + 1);
  memcpy(computation->weights, weights, n * sizeof(float));
  *out = computation;
  return NULL;
}

static void release_node_compute_infos(void *self, void **infos, size_t n) {
  (void)self;
  for (size_t i = 0; i < n; i++) {
    Computation *computation = infos[i];
    free(computation->weights);
    free(computation);
  }
}

/* --- which nodes --- */

static Status *is_op(const void *node, const char *op_type, bool *is) {
  const char *found = NULL;
  TRY(API(NODE_GET_OPERATOR_TYPE, const void *, const char **)(node, &found));
  *is = strcmp(found, op_type) == 0;
  return NULL;
}

/* The constant among the inputs of a node, if there is one. */
static Status *constant_input(const void *node, const void **value_info) {
  size_t n = 0;
  const void *inputs[2] = {NULL, NULL};
  *value_info = NULL;
  TRY(API(NODE_GET_NUM_INPUTS, const void *, size_t *)(node, &n));
  if (n != 2) return NULL;
  TRY(API(NODE_GET_INPUTS, const void *, const void **, size_t)(node, inputs, n));
  for (size_t i = 0; i < n; i++) {
    bool is_constant = false;
    TRY(API(VALUE_INFO_IS_CONSTANT_INITIALIZER, const void *, bool *)(inputs[i], &is_constant));
    if (is_constant) *value_info = inputs[i];
  }
  return NULL;
}

/* A string attribute, with a NUL after it. */
static Status *string_attribute(const void *node, const char *name, char *text, size_t room) {
  const void *attribute = NULL;
  size_t len = 0;
  TRY(API(NODE_GET_ATTRIBUTE_BY_NAME, const void *, const char *, const void **)(node, name, &attribute));
  if (attribute == NULL) return fail("stub: an attribute is missing");
  TRY(API(READ_OP_ATTR, const void *, int, void *, size_t, size_t *)(attribute, ATTR_STRING, text, room - 1, &len));
  text[len < room ? len : room - 1] = 0;
  return NULL;
}

static Status *get_capability(Ep *self, const void *graph, void *info) {
  (void)self;
  Table ep_api = AT(ort, GET_EP_API, Table, void)();
  size_t n = 0;
  TRY(API(GRAPH_GET_NUM_NODES, const void *, size_t *)(graph, &n));
  const void **nodes = calloc(n + 1, sizeof *nodes);
  Status *status = API(GRAPH_GET_NODES, const void *, const void **, size_t)(graph, nodes, n);
  for (size_t i = 0; i < n && status == NULL; i++) {
    bool is_mul = false, is_context = false;
    const void *constant = NULL;
    char source[64];
    status = is_op(nodes[i], "Mul", &is_mul);
    if (status == NULL) status = is_op(nodes[i], "EPContext", &is_context);
    if (status == NULL && is_mul) status = constant_input(nodes[i], &constant);
    if (status == NULL && is_context) {
      status = string_attribute(nodes[i], "source", source, sizeof source);
      is_context = status == NULL && strcmp(source, NAME) == 0;
    }
    if (status != NULL || (constant == NULL && !is_context)) continue;
    struct {
      uint32_t version;
      bool drop_constant_initializers;
    } options = {API_VERSION, true};
    status = AT(ep_api, ADD_NODES_TO_FUSE, Status *, void *, const void *const *, size_t, const void *)(
        info, &nodes[i], 1, &options);
  }
  free(nodes);
  return status;
}

/* --- compiling and loading --- */

static Status *names_of(const void *node, int count_slot, int list_slot, const char **name) {
  size_t n = 0;
  const void *values[1] = {NULL};
  TRY(API(count_slot, const void *, size_t *)(node, &n));
  if (n != 1) return fail("stub: a fused node has one input and one output");
  TRY(API(list_slot, const void *, const void **, size_t)(node, values, n));
  return API(GET_VALUE_INFO_NAME, const void *, const char **)(values[0], name);
}

static Status *create_context_node(const void *fused, const char *cache_name, void **node) {
  const char *node_name = NULL, *input = NULL, *output = NULL;
  TRY(API(NODE_GET_NAME, const void *, const char **)(fused, &node_name));
  TRY(names_of(fused, NODE_GET_NUM_INPUTS, NODE_GET_INPUTS, &input));
  TRY(names_of(fused, NODE_GET_NUM_OUTPUTS, NODE_GET_OUTPUTS, &output));
  int64_t main_context = 1, embed_mode = 0;
  void *attributes[5] = {NULL};
  Status *(*create)(const char *, const void *, int, int, void **) =
      API(CREATE_OP_ATTR, const char *, const void *, int, int, void **);
  TRY(create("ep_cache_context", cache_name, (int)strlen(cache_name), ATTR_STRING, &attributes[0]));
  TRY(create("main_context", &main_context, 1, ATTR_INT, &attributes[1]));
  TRY(create("embed_mode", &embed_mode, 1, ATTR_INT, &attributes[2]));
  TRY(create("source", NAME, (int)strlen(NAME), ATTR_STRING, &attributes[3]));
  TRY(create("partition_name", node_name, (int)strlen(node_name), ATTR_STRING, &attributes[4]));
  Table editor = AT(ort, GET_MODEL_EDITOR_API, Table, void)();
  Status *status =
      AT(editor, CREATE_NODE, Status *, const char *, const char *, const char *, const char *const *, size_t,
         const char *const *, size_t, void **, size_t, void **)(
          "EPContext", "com.microsoft", node_name, &input, 1, &output, 1, attributes, 5, node);
  for (size_t i = 0; i < 5; i++) AT(ort, RELEASE_OP_ATTR, void, void *)(attributes[i]);
  return status;
}

static Status *compile_mul(Ep *ep, const void *node, const void *fused, size_t index, void **info, void **context) {
  const void *value_info = NULL, *value = NULL;
  float *weights = NULL;
  size_t len = 0;
  TRY(constant_input(node, &value_info));
  if (value_info == NULL) return fail("stub: no constant");
  TRY(API(VALUE_INFO_GET_INITIALIZER_VALUE, const void *, const void **)(value_info, &value));
  TRY(API(GET_TENSOR_MUTABLE_DATA, const void *, float **)(value, &weights));
  TRY(API(GET_TENSOR_SIZE_IN_BYTES, const void *, size_t *)(value, &len));
  TRY(computation_of(weights, len / sizeof(float), info));
  if (!ep->compiles) return NULL;

  char name[160];
  if (ep->name[0] != 0)
    snprintf(name, sizeof name, "%s", ep->name);
  else
    snprintf(name, sizeof name, "stub_%zu_ctx.bin", index);
  char *cache = malloc(MAGIC_BYTES + len);
  memcpy(cache, MAGIC, MAGIC_BYTES);
  memcpy(cache + MAGIC_BYTES, weights, len);
  Status *status = ep->write != NULL ? ep->write(ep->write_state, name, cache, MAGIC_BYTES + len)
                                     : write_file(ep, name, cache, MAGIC_BYTES + len);
  free(cache);
  TRY(status);
  return create_context_node(fused, name, context);
}

static Status *load_context(Ep *ep, const void *node, void **info) {
  char name[256];
  Allocator *allocator = NULL;
  void *cache = NULL;
  size_t len = 0;
  TRY(string_attribute(node, "ep_cache_context", name, sizeof name));
  TRY(API(GET_ALLOCATOR_WITH_DEFAULT_OPTIONS, Allocator **)(&allocator));
  if (ep->read != NULL)
    TRY(ep->read(ep->read_state, name, allocator, &cache, &len));
  else
    TRY(read_file(ep, name, &cache, &len));
  Status *status = len < MAGIC_BYTES || memcmp(cache, MAGIC, MAGIC_BYTES) != 0
                       ? fail("stub: this is none of its compiled caches")
                       : computation_of((float *)((char *)cache + MAGIC_BYTES), (len - MAGIC_BYTES) / sizeof(float), info);
  if (ep->read != NULL)
    allocator->free(allocator, cache);
  else
    free(cache);
  return status;
}

static Status *compile(Ep *ep, const void **graphs, const void **fused, size_t count, void **infos, void **contexts) {
  for (size_t i = 0; i < count; i++) {
    const void *node = NULL;
    bool is_context = false;
    TRY(API(GRAPH_GET_NODES, const void *, const void **, size_t)(graphs[i], &node, 1));
    TRY(is_op(node, "EPContext", &is_context));
    if (is_context)
      TRY(load_context(ep, node, &infos[i]));
    else
      TRY(compile_mul(ep, node, fused[i], i, &infos[i], contexts == NULL ? NULL : &contexts[i]));
  }
  return NULL;
}

static Status *data_support(const Ep *ep, uint32_t *flags) {
  *flags = ep->no_support ? 0 : 3; /* both callbacks */
  return NULL;
}

/* --- the factory --- */

static const char *name(const void *self) {
  (void)self;
  return NAME;
}

static const char *vendor(const void *self) {
  (void)self;
  return "onnxseal tests";
}

static uint32_t vendor_id(const void *self) {
  (void)self;
  return 0x5EA1;
}

static const char *version(const void *self) {
  (void)self;
  return "1.0.0";
}

static bool is_stream_aware(const void *self) {
  (void)self;
  return false;
}

/* Its memory is the CPU's. */
static Status *create_data_transfer(void *self, void **out) {
  (void)self;
  *out = NULL;
  return NULL;
}

static Status *supported_devices(void *self, const void *const *devices, size_t n, void **out, size_t max, size_t *n_out) {
  Table ep_api = AT(ort, GET_EP_API, Table, void)();
  *n_out = 0;
  for (size_t i = 0; i < n && *n_out < max; i++) {
    if (AT(ort, HARDWARE_DEVICE_TYPE, int, const void *)(devices[i]) != 0) continue; /* the CPU */
    TRY(AT(ep_api, CREATE_EP_DEVICE, Status *, void *, const void *, const void *, const void *, void **)(
        self, devices[i], NULL, NULL, &out[*n_out]));
    *n_out += 1;
    return NULL;
  }
  return NULL;
}

static Status *config_entry(const void *options, const char *key, char *value, size_t room) {
  int has = 0;
  value[0] = 0;
  TRY(API(HAS_SESSION_CONFIG_ENTRY, const void *, const char *, int *)(options, key, &has));
  if (!has) return NULL;
  return API(GET_SESSION_CONFIG_ENTRY, const void *, const char *, char *, size_t *)(options, key, value, &room);
}

static Status *create_ep(void *self, const void *const *devices, const void *const *metadata, size_t n_devices,
                         const void *options, const void *logger, void **out) {
  (void)self, (void)devices, (void)metadata, (void)n_devices, (void)logger;
  Table ep_api = AT(ort, GET_EP_API, Table, void)();
  char flag[8];
  Ep *ep = calloc(1, sizeof *ep);
  ep->functions.version = API_VERSION;
  SET(ep->functions, EP_GET_NAME, name);
  SET(ep->functions, EP_GET_CAPABILITY, get_capability);
  SET(ep->functions, EP_COMPILE, compile);
  SET(ep->functions, EP_RELEASE_NODE_COMPUTE_INFOS, release_node_compute_infos);
  SET(ep->functions, EP_GET_EP_CONTEXT_DATA_SUPPORT, data_support);
  TRY(config_entry(options, "ep.context_enable", flag, sizeof flag));
  ep->compiles = strcmp(flag, "1") == 0;
  TRY(config_entry(options, "stub.no_support", flag, sizeof flag));
  ep->no_support = strcmp(flag, "1") == 0;
  TRY(config_entry(options, "stub.folder", ep->folder, sizeof ep->folder));
  TRY(config_entry(options, "stub.name", ep->name, sizeof ep->name));
  TRY(AT(ep_api, GET_EP_CONTEXT_CONFIG, Status *, const void *, void **)(options, &ep->config));
  TRY(AT(ep_api, GET_READ_FUNC, Status *, const void *, ReadFunc *, void **)(ep->config, &ep->read, &ep->read_state));
  TRY(AT(ep_api, GET_WRITE_FUNC, Status *, const void *, WriteFunc *, void **)(ep->config, &ep->write, &ep->write_state));
  *out = ep;
  return NULL;
}

static void release_ep(void *self, Ep *ep) {
  (void)self;
  AT(AT(ort, GET_EP_API, Table, void)(), RELEASE_EP_CONTEXT_CONFIG, void, void *)(ep->config);
  free(ep);
}

typedef struct {
  const void *(*get_api)(uint32_t version);
  const char *(*get_version)(void);
} ApiBase;

Status *CreateEpFactories(const char *registered_name, const ApiBase *base, const void *logger, void **factories,
                          size_t max, size_t *n) {
  static Functions factory;
  (void)registered_name, (void)logger;
  ort = base->get_api(API_VERSION);
  *n = 0;
  if (ort == NULL) {
    ort = base->get_api(1);
    return fail("stub: ONNX Runtime is older than 1.31");
  }
  if (max == 0) return fail("stub: no room for a factory");
  memset(&factory, 0, sizeof factory);
  factory.version = API_VERSION;
  SET(factory, FACTORY_GET_NAME, name);
  SET(factory, FACTORY_GET_VENDOR, vendor);
  SET(factory, FACTORY_GET_SUPPORTED_DEVICES, supported_devices);
  SET(factory, FACTORY_CREATE_EP, create_ep);
  SET(factory, FACTORY_RELEASE_EP, release_ep);
  SET(factory, FACTORY_GET_VENDOR_ID, vendor_id);
  SET(factory, FACTORY_GET_VERSION, version);
  SET(factory, FACTORY_CREATE_DATA_TRANSFER, create_data_transfer);
  SET(factory, FACTORY_IS_STREAM_AWARE, is_stream_aware);
  factories[0] = &factory;
  *n = 1;
  return NULL;
}

Status *ReleaseEpFactory(void *factory) {
  (void)factory;
  return NULL;
}
