//! Every row of what engines were seen to print when they could not start, in their own words.

use super::*;
use crate::engine::Catalogue;

fn explain(engine: &str, log: &str) -> Explained {
    let catalogue = Catalogue::builtin();
    let found = catalogue.get(engine).unwrap().errors().explain(log.as_bytes());
    found.unwrap_or_else(|| panic!("{engine} does not explain:\n{log}"))
}

/// A log of llama.cpp that ends as every failed start does.
fn llama(line: &str) -> String {
    format!(
        "load_backend: loaded CPU backend\nsrv    load_model: loading model\n{line}\nsrv  llama_server: exiting due to model loading error\n"
    )
}

/// A log of vLLM in which a worker failed: the cause stands 120 lines above the last one.
fn worker(line: &str) -> String {
    let prefix = "(Worker pid=812) ERROR 11-22 07:01:05 [multiproc_executor.py:922]";
    let core = "(EngineCore pid=790) ERROR 11-22 07:01:06 [core.py:1120]";
    let frames = format!("{core}   File \"SP/vllm/v1/engine/core.py\", line 1110, in run_engine_core\n").repeat(120);
    format!(
        "INFO vLLM API server version 0.32.0\n{prefix} WorkerProc failed to start.\n{prefix} Traceback (most recent call last):\n{prefix} {line}\n{core} EngineCore failed to start.\n{frames}{core} Exception: WorkerProc initialization failed due to an exception in a background process. See stack trace for root cause.\n(APIServer pid=700) Traceback (most recent call last):\n{LAST}"
    )
}

const LAST: &str =
    "(APIServer pid=700) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n";

const DIED: &str = "(EngineCore pid=24) ERROR 11-22 13:41:39 [multiproc_executor.py:315] Worker proc VllmWorker-0 died unexpectedly (exit code: None), shutting down executor.\n";

/// A log of vLLM in which the engine core failed.
fn core(line: &str) -> String {
    let core = "(EngineCore pid=790) ERROR 11-22 07:01:06 [core.py:1120]";
    format!("{core} EngineCore failed to start.\n{core} Traceback (most recent call last):\n{core} {line}\n{LAST}")
}

/// A log of vLLM whose configuration is wrong.
fn config(line: &str) -> String {
    format!(
        "(APIServer pid=700) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n  {line} [type=value_error, input_value=ArgsKwargs((), {{'model': 'MODEL'}}), input_type=ArgsKwargs]\n"
    )
}

#[test]
fn every_failure_of_llama_cpp_that_was_seen_is_explained() {
    let rows = [
        (
            "gguf_init_from_file: failed to open GGUF file '/models/none.gguf' (No such file or directory)",
            Reason::WeightsDamaged,
            "cannot open /models/none.gguf (No such file or directory)",
        ),
        (
            "llama_model_load: error loading model: tensor 'blk.16.ffn_down.weight' data is not within the file bounds, model is corrupted or incomplete",
            Reason::WeightsDamaged,
            "tensor 'blk.16.ffn_down.weight' lies behind its end",
        ),
        ("gguf_init_from_reader: failed to read header", Reason::WeightsDamaged, "cannot read the header"),
        (
            "gguf_init_from_reader: invalid magic characters: '?O??', expected 'GGUF'",
            Reason::WeightsDamaged,
            "begins with '?O??'",
        ),
        (
            "llama_model_load: error loading model: unknown model architecture: 'zzzzz'",
            Reason::UnknownArchitecture,
            "architecture 'zzzzz'",
        ),
        (
            "llama_model_load: error loading model: mmap failed: Cannot allocate memory",
            Reason::OutOfMemory,
            "could not get the memory",
        ),
        ("error: invalid argument: --no-such-flag", Reason::ArgumentRejected, "the argument --no-such-flag."),
        ("error while handling argument \"-c\": stoi", Reason::ArgumentRejected, "the value of -c (stoi)"),
        ("srv  llama_server: exiting due to HTTP server error", Reason::EngineFailed, "could not open its port"),
        ("llama_model_load: error loading model: something new", Reason::EngineFailed, "something new"),
    ];
    for (line, reason, said) in rows {
        let found = explain("llama-cpp", &llama(line));
        assert_eq!(found.reason, reason, "{line}: {}", found.said);
        assert!(found.said.contains(said), "{line}: {}", found.said);
    }
}

#[test]
fn every_failure_of_vllm_that_was_seen_is_explained_from_the_middle_of_its_log() {
    let header = "safetensors._safetensors_rust.SafetensorError: Error while deserializing header:";
    let kv = "Available memory on node 0 (7.13/10.21 GiB) on kv cache allocation is less than requested memory for kv (100.0 GiB). Decrease --kv-cache-memory-bytes, VLLM_CPU_KVCACHE_SPACE, or reduce CPU memory used by other processes.";
    let long = "ValueError: To serve at least one request with the model's max seq len (3000000), (2.86 GiB KV cache is needed, which is larger than the available KV cache memory (1.0 GiB). Based on the available memory, the estimated maximum model length is 1048448. Try increasing `gpu_memory_utilization` (which also controls CPU memory on the CPU backend) or decreasing `max_model_len` when initializing the engine.";
    let user = "Value error, User-specified max_model_len (100000) is greater than the derived max_model_len (max_position_embeddings=2048.0 or model_max_length=None in model's config.json). To allow overriding this maximum, set the env var VLLM_ALLOW_LONG_MAX_MODEL_LEN=1.";
    let architectures = format!(
        "Value error, Model architectures ['FooBarForCausalLM'] are not supported for now. Supported architectures: dict_keys([{}])",
        "'AfmoeForCausalLM', ".repeat(700)
    );
    let rows: Vec<(String, Reason, &str)> = vec![
        (worker(&format!("{header} invalid UTF-8 in header: invalid utf-8 sequence of 1 bytes from index 1")), Reason::WeightsDamaged, "invalid UTF-8 in header"),
        (worker(&format!("{header} header too large")), Reason::WeightsDamaged, "header too large"),
        (worker(&format!("{header} incomplete metadata, file not fully covered")), Reason::WeightsDamaged, "file not fully covered"),
        (worker("FileNotFoundError: Weight files referenced in index but missing: {'MODEL/model-00002-of-00004.safetensors'}"), Reason::WeightsDamaged, "model-00002-of-00004.safetensors"),
        (worker("    f\"Weight files referenced in index but missing: {missing_files}\"\n(Worker pid=812) ERROR 11-22 07:01:05 [multiproc_executor.py:922] FileNotFoundError: Weight files referenced in index but missing: {'MODEL/a.safetensors'}"), Reason::WeightsDamaged, "not there: 'MODEL/a.safetensors'"),
        (worker("RuntimeError: Cannot find any model weights with `MODEL`"), Reason::WeightsDamaged, "no weights"),
        (worker("RuntimeError: start (0) + length (256) exceeds dimension size (128)."), Reason::WeightsDamaged, "other shapes"),
        (worker(kv), Reason::OutOfMemory, "a cache of 100.0 GiB, and 7.13 GiB"),
        (worker("RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 1073741824 bytes. Error code 12 (Cannot allocate memory)"), Reason::OutOfMemory, "1073741824 more bytes"),
        (core(long), Reason::ContextTooLong, "3000000 tokens needs 2.86 GiB of cache and 1.0 GiB is left. Set spec.engine.contextLength to 1048448 or less."),
        (core("Exception: WorkerProc initialization failed due to an exception in a background process. See stack trace for root cause."), Reason::OutOfMemory, "was killed while it loaded"),
        (config("Value error, The checkpoint you are trying to load has model type `foobar` but Transformers does not recognize this architecture. This could be because of an issue with the checkpoint, or because your version of Transformers is out of date."), Reason::UnknownArchitecture, "the model type foobar"),
        (config(&architectures), Reason::UnknownArchitecture, "the architecture FooBarForCausalLM"),
        (config(user), Reason::ContextTooLong, "100000 tokens is longer than the 2048"),
        ("    raise OSError(f\"It looks like the config file at '{resolved_config_file}' is not a valid JSON file.\")\nOSError: It looks like the config file at 'MODEL/config.json' is not a valid JSON file.\n".into(), Reason::WeightsDamaged, "MODEL/config.json is not JSON"),
        (config("Value error, Invalid repository ID or local directory specified: 'MODEL'."), Reason::WeightsDamaged, "has no config.json"),
        ("huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder for the specified revision on the local disk and outgoing traffic has been disabled.\n".into(), Reason::EngineFailed, "look something up"),
        ("ValueError: Couldn't instantiate the backend tokenizer from one of: \n(1) a `tokenizers` library serialization file, \n".into(), Reason::WeightsDamaged, "no tokenizer"),
        ("OSError: [Errno 98] Address already in use\n".into(), Reason::EngineFailed, "port is taken"),
        ("vllm: error: unrecognized arguments: --no-such-flag 3\n".into(), Reason::ArgumentRejected, "the argument --no-such-flag 3"),
        ("vllm serve: error: argument --dtype: invalid choice: 'float99' (choose from 'auto', 'bfloat16')\n".into(), Reason::ArgumentRejected, "value of --dtype: invalid choice: 'float99'"),
        ("FileNotFoundError: [Errno 2] No usable temporary directory found in ['/tmp', '/var/tmp', '/usr/tmp', CWD]\n".into(), Reason::EngineFailed, "temporary"),
        (worker("OSError: [Errno 30] Read-only file system: 'HOME/.cache'"), Reason::EngineFailed, "writable list"),
        ("  File \"<frozen os>\", line 225, in makedirs\nOSError: [Errno 30] Read-only file system: '/home'\n".into(), Reason::EngineFailed, "may not (OSError: [Errno 30] Read-only file system: '/home')"),
        (worker("PermissionError: [Errno 13] Permission denied: '/root/.cache'"), Reason::EngineFailed, "writable list"),
        // After it was ready.
        (DIED.replace("None", "-9"), Reason::OutOfMemory, "VllmWorker-0 was killed"),
        (DIED.replace("None", "-11"), Reason::EngineFailed, "VllmWorker-0 ended with exit code -11"),
        (DIED.into(), Reason::OutOfMemory, "VllmWorker-0 was killed"),
        ("(APIServer pid=1) WARNING 11-22 13:40:00 [core_client.py:818] [shutdown] MPClient: engine core exited unexpectedly; starting cleanup\n".into(), Reason::OutOfMemory, "engine core was killed"),
        (format!("{}{DIED}", core("RuntimeError: Executor failed.")), Reason::OutOfMemory, "VllmWorker-0 was killed"),
        (format!("{}{DIED}", core("RuntimeError: cancelled")), Reason::OutOfMemory, "VllmWorker-0 was killed"),
        // It ended its worker itself.
        (format!("{}{DIED}", core("OSError: [Errno 30] Read-only file system: '/psm_1196ae64'")), Reason::EngineFailed, "engine core failed: OSError: [Errno 30]"),
        (format!("{}{DIED}", core("ValueError: can't do that")), Reason::EngineFailed, "engine core failed: ValueError: can't do that"),
        (worker("RuntimeError: Unsupported CPU attention configuration: head_dim=16 isa=2 kv_cache_idx=0"), Reason::UnknownArchitecture, "size 16"),
        (worker("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.65 GiB"), Reason::DeviceOutOfMemory, "2.00 GiB more"),
        (worker("some.Strange_Error: nobody has seen this"), Reason::EngineFailed, "nobody has seen this"),
        (LAST.into(), Reason::EngineFailed, "does not say why"),
    ];
    for (log, reason, said) in rows {
        let found = explain("vllm", &log);
        assert_eq!(found.reason, reason, "{}\n{log}", found.said);
        assert!(found.said.contains(said), "{}\n{log}", found.said);
    }
}

#[test]
fn an_error_in_the_log_that_stops_nothing_explains_nothing_else() {
    // A read-only home costs a traceback, and the start goes on: what fails later is the cause.
    let harmless = "(APIServer pid=700) ERROR 11-22 [registry.py:1041] Error saving model info cache.\n(APIServer pid=700) ERROR 11-22 [registry.py:1041] OSError: [Errno 30] Read-only file system: 'HOME/.cache'\n";
    let log =
        format!("{harmless}{}", core("Exception: WorkerProc initialization failed due to an exception in a background process."));
    assert_eq!(explain("vllm", &log).reason, Reason::OutOfMemory);
    assert_eq!(Catalogue::builtin().get("vllm").unwrap().errors().explain(harmless.as_bytes()), None);
}

#[test]
fn what_a_log_says_cannot_break_the_message() {
    let error = EngineError { pattern: "bad: (?<what>.*)".into(), reason: "EngineFailed".into(), say: "It is ${what}.".into() };
    let errors = Errors::compile(&[error]).unwrap();
    let log = [b"x\nbad: \x1b[31mred\xff".as_slice(), &[b'y'; 1000], b"\r\n"].concat();
    let found = errors.explain(&log).unwrap();
    assert!(found.said.starts_with("It is [31mred") && !found.said.contains('\u{1b}'), "{}", found.said);
    assert!(found.said.chars().count() < 320, "{}", found.said.len());
}

#[test]
fn a_long_log_and_a_wicked_pattern_take_no_time() {
    let error = EngineError { pattern: "(a*)*b".into(), reason: "EngineFailed".into(), say: "x".into() };
    let errors = Errors::compile(&[error]).unwrap();
    let began = std::time::Instant::now();
    assert_eq!(errors.explain("a".repeat(256 * 1024).as_bytes()), None);
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}
