//! Everything by which a user could make an engine load something else, or say something else than what was verified:
//! refused, in every way of writing it.

use crate::api::{AcceleratorClass, EnvVar, Reason};

use super::{Catalogue, Engine, RenderInput, Selection, render};

/// Flags of llama.cpp's server (build 11669) that name a file, an address, a template, a tool, a key or another model, or
/// change what is measured and served.
const LLAMA: &str = "-m --model -mu --model-url -dr --docker-repo -hf -hfr --hf-repo -hff --hf-file -hft --hf-token
    --lora --lora-scaled --lora-init-without-apply --control-vector --control-vector-scaled --control-vector-layer-range
    -mm --mmproj -mmu --mmproj-url --mmproj-auto --spec-draft-hf -hfd -hfrd --hf-repo-draft --spec-draft-model -md --model-draft
    -lcs --lookup-cache-static -lcd --lookup-cache-dynamic --chat-template --chat-template-file --chat-template-kwargs
    --grammar --grammar-file -j --json-schema -jf --json-schema-file --override-kv -ot --override-tensor --rpc -dev --device
    --path --api-key --api-key-file --ssl-key-file --ssl-cert-file --slot-save-path --media-path --models-dir --models-preset
    --log-file --log-disable --log-prompts-dir --tools --tools-runtime --mcp-servers-config --mcp-servers-json -ag --agent
    --ui --webui --ui-config --webui-config --ui-config-file --webui-config-file --ui-mcp-proxy --webui-mcp-proxy
    --video-ffmpeg-dir --reuse-port --host --port -a --alias --tags --api-prefix --cors-origins --cors-headers --props --slots
    --metrics --offline -c --ctx-size -cl --cache-list --completion-bash --embd-gemma-default --fim-qwen-1.5b-default
    --gpt-oss-20b-default --vision-gemma-4b-default --spec-default --spec-type --sleep-idle-seconds --list-devices -h --help --version";

/// The same of vLLM's server (0.32).
const VLLM: &str = "--model --tokenizer --revision --code-revision --tokenizer-revision --tokenizer-mode --trust-remote-code
    --hf-config-path --hf-overrides --hf-token --config --config-format --load-format --model-loader-extra-config --download-dir
    --ignore-patterns --pt-load-map-location --model-impl --model-class-overrides --generation-config --override-generation-config
    --speculative-config --spec-model --spec-method --lora-modules --enable-lora --default-mm-loras --chat-template
    --default-chat-template-kwargs --trust-request-chat-template --trust-request-mm-kwargs --middleware --tool-parser-plugin
    --reasoning-parser-plugin --io-processor-plugin --logits-processors --worker-cls --worker-extension-cls --scheduler-cls
    --distributed-executor-backend --kv-transfer-config --ec-transfer-config --kv-events-config --weight-transfer-config
    --kv-offloading-backend --additional-config --compilation-config --quantization-config --structured-outputs-config
    --attention-config --profiler-config --eplb-config --pooler-config --mm-processor-kwargs --media-io-kwargs --limit-mm-per-prompt
    --allowed-local-media-path --allowed-media-domains --api-key --ssl-keyfile --ssl-certfile --ssl-ca-certs --uds --host --port
    --root-path --served-model-name --log-config-file --logging-config --otlp-traces-endpoint --tool-server --headless --grpc
    --master-addr --master-port --nnodes --node-rank --data-parallel-address --data-parallel-size --tensor-parallel-size
    --pipeline-parallel-size --max-model-len --shutdown-timeout --enable-prompt-embeds --enable-mm-embeds --enable-sleep-mode
    --mm-encoder-fp8-scale-path --enable-tokenizer-info-endpoint --skip-tokenizer-init --disable-log-stats --allowed-origins
    -O -O3 -cc -tp -pp -dp -q -h --help -v";

/// Variables that load or fetch something else, or reconfigure the loader, the interpreter or the engine.
const VARIABLES: &str = "LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT LD_DEBUG_OUTPUT GCONV_PATH GLIBC_TUNABLES PATH HOME TMPDIR IFS BASH_ENV ENV
    LLAMA_ARG_MODEL LLAMA_ARG_MODEL_URL LLAMA_ARG_HF_REPO LLAMA_ARG_HF_FILE LLAMA_ARG_DOCKER_REPO LLAMA_ARG_MODELS_DIR
    LLAMA_ARG_MODELS_PRESET LLAMA_ARG_MMPROJ LLAMA_ARG_MMPROJ_URL LLAMA_ARG_SPEC_DRAFT_MODEL LLAMA_ARG_SPEC_DRAFT_HF_REPO
    LLAMA_ARG_CHAT_TEMPLATE LLAMA_ARG_CHAT_TEMPLATE_FILE LLAMA_ARG_RPC LLAMA_ARG_TOOLS LLAMA_ARG_TOOLS_RUNTIME LLAMA_ARG_AGENT
    LLAMA_ARG_MCP_SERVERS_CONFIG LLAMA_ARG_MCP_SERVERS_JSON LLAMA_ARG_STATIC_PATH LLAMA_ARG_UI LLAMA_ARG_UI_CONFIG_FILE
    LLAMA_ARG_API_KEY_FILE LLAMA_ARG_SLOT_SAVE_PATH LLAMA_ARG_LOG_FILE LLAMA_ARG_VIDEO_FFMPEG_DIR LLAMA_ARG_REUSE_PORT
    LLAMA_ARG_THREADS LLAMA_ARG_HOST LLAMA_ARG_PORT LLAMA_ARG_ALIAS LLAMA_ARG_OFFLINE LLAMA_API_KEY LLAMA_CACHE GGML_BACKEND_PATH
    HF_TOKEN HF_ENDPOINT HF_HOME HF_HUB_OFFLINE HF_HUB_CACHE HF_MODULES_CACHE TRANSFORMERS_OFFLINE TRANSFORMERS_CACHE MODEL_ENDPOINT
    PYTHONPATH PYTHONSTARTUP PYTHONHOME PYTHONINSPECT PYTHONUSERBASE PYTHONWARNINGS PYTHONBREAKPOINT PYTHONPYCACHEPREFIX
    VLLM_PLUGINS VLLM_USE_MODELSCOPE VLLM_LOGGING_CONFIG_PATH VLLM_SERVER_DEV_MODE VLLM_ALLOW_RUNTIME_LORA_UPDATING VLLM_API_KEY
    VLLM_CACHE_ROOT VLLM_CONFIG_ROOT VLLM_RPC_BASE_PATH VLLM_LORA_RESOLVER_CACHE_DIR VLLM_ALLOW_INSECURE_SERIALIZATION VLLM_HOST_IP
    VLLM_PORT VLLM_NO_USAGE_STATS VLLM_USAGE_STATS_SERVER VLLM_CONFIGURE_LOGGING VLLM_NCCL_SO_PATH VLLM_TRACE_FUNCTION
    TORCH_EXTENSIONS_DIR TORCHINDUCTOR_CACHE_DIR TRITON_CACHE_DIR TRITON_LIBCUDA_PATH TORCH_LOGS_OUT TORCH_DEVICE_BACKEND_AUTOLOAD
    NCCL_NET_PLUGIN NCCL_TUNER_PLUGIN NCCL_CONF_FILE NCCL_DEBUG_FILE CUDA_HOME CUDA_INJECTION64_PATH NVIDIA_VISIBLE_DEVICES
    NVIDIA_DRIVER_CAPABILITIES OMP_TOOL_LIBRARIES OTEL_EXPORTER_OTLP_ENDPOINT
    HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy NO_PROXY SSL_CERT_FILE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE OPENSSL_CONF";

fn engines() -> [(Engine, Vec<&'static str>); 2] {
    let catalogue = Catalogue::builtin();
    [("llama-cpp", LLAMA), ("vllm", VLLM)]
        .map(|(name, flags)| (catalogue.get(name).unwrap().clone(), flags.split_whitespace().collect()))
}

fn outcome(engine: &Engine, args: &[&str], env: &[(&str, &str)]) -> Result<Vec<String>, Reason> {
    let selection = Selection { format: "any".into(), files: vec!["model".parse().unwrap()], entry: "model".parse().unwrap() };
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let env: Vec<EnvVar> =
        env.iter().map(|(name, value)| EnvVar { name: (*name).to_owned(), value: (*value).to_owned() }).collect();
    let input = RenderInput {
        served_names: &["m".to_owned()],
        context_length: Some(4096),
        accelerator: (AcceleratorClass::Nvidia, 1),
        user_args: &args,
        user_env: &env,
        model_path: "/models",
    };
    render(engine, &selection, &input).map(|rendered| rendered.args).map_err(|problem| problem.reason)
}

#[track_caller]
fn refused(engine: &Engine, args: &[&str]) {
    assert_eq!(outcome(engine, args, &[]), Err(Reason::ArgumentNotAllowed), "{}: {args:?}", engine.name());
}

#[test]
fn dangerous_flags_are_refused_however_they_are_written() {
    for (engine, flags) in engines() {
        let switch = engine.spec().user.switches[0].as_str();
        let with_value = engine.spec().user.args[0].as_str();
        for flag in flags {
            for written in [
                flag.to_owned(),
                flag.replace('-', "_"),
                format!("--{}", flag.trim_start_matches('-').replace('-', "_")),
                format!("-{}", flag.trim_start_matches('-')),
                format!("-{flag}"),
                flag.to_uppercase(),
                format!(" {flag}"),
                format!("{flag} "),
                format!("{flag}\t"),
                format!("{flag}\n"),
                format!("{flag}\0"),
                format!("\u{feff}{flag}"),
                format!("{flag}\u{200b}"),
                flag.replace('-', "\u{2010}"),
                flag.replace('-', "\u{2013}"),
                flag.replace('-', "\u{2212}"),
                flag.replace('-', "\u{ff0d}"),
                format!("{flag} /tmp/other"),
                format!("{flag}.path"),
                format!("{flag}+"),
                format!("{flag}:/tmp/other"),
                format!("'{flag}'"),
                format!("$(echo {flag})"),
            ] {
                refused(&engine, &[&written]);
                refused(&engine, &[&written, "/tmp/other"]);
                refused(&engine, &[&format!("{written}=/tmp/other")]);
                refused(&engine, &[&format!("{written}={{\"model\": \"/tmp/other\"}}")]);
            }
            // Behind something that is allowed.
            refused(&engine, &[switch, flag, "/tmp/other"]);
            refused(&engine, &[with_value, "4", flag, "/tmp/other"]);
            refused(&engine, &[with_value, flag]);
            refused(&engine, &[&format!("{with_value}={flag}")]);
            refused(&engine, &[&format!("{with_value}={flag}=/tmp/other")]);
            refused(&engine, &[&format!("{with_value}=4\n{flag}=/tmp/other")]);
            refused(&engine, &["--", flag]);
        }
    }
}

#[test]
fn abbreviations_that_a_parser_would_complete_are_refused() {
    for (engine, flags) in engines() {
        let user = &engine.spec().user;
        let listed = |flag: &str| user.args.iter().chain(&user.switches).any(|known| known == flag);
        for flag in flags.into_iter().chain(user.args.iter().chain(&user.switches).map(String::as_str)) {
            for end in 1..flag.len() {
                let abbreviation = &flag[..end];
                if !listed(abbreviation) {
                    refused(&engine, &[abbreviation]);
                    refused(&engine, &[&format!("{abbreviation}=1")]);
                }
            }
        }
    }
}

#[test]
fn values_that_could_be_arguments_of_their_own_are_refused() {
    for (engine, _) in engines() {
        let user = &engine.spec().user;
        for switch in &user.switches {
            for value in ["/tmp/other", "other/model", "1", "true", "@/tmp/arguments", ""] {
                refused(&engine, &[switch, value]);
                refused(&engine, &[&format!("{switch}={value}")]);
            }
        }
        for flag in &user.args {
            refused(&engine, &[flag]);
            refused(&engine, &[flag, "1", "/tmp/other"]);
            for value in ["", "-", "--", "-m", "-1x", "-1,-2", "--1", "-.5e3", "-0x1", "-inf", "@/tmp/arguments", "1\n2", "1\0"] {
                refused(&engine, &[flag, value]);
                refused(&engine, &[&format!("{flag}={value}")]);
            }
        }
    }
}

#[test]
fn arguments_without_a_flag_are_refused() {
    for (engine, _) in engines() {
        for arg in [
            "/tmp/other",
            "other/model",
            "@/tmp/arguments",
            "=",
            "=x",
            "$(MODEL_PATH)",
            "\"--threads\"",
            "{\"model\": \"x\"}",
            "\u{202e}",
            "",
        ] {
            refused(&engine, &[arg]);
        }
    }
}

#[test]
fn what_is_allowed_reaches_the_engine_as_one_value_that_nobody_expands() {
    for (engine, _) in engines() {
        for flag in &engine.spec().user.args {
            let args = outcome(&engine, &[flag, "$(LD_PRELOAD) `id` $$(PORT); --model x"], &[]).unwrap();
            let given: Vec<&str> = args.iter().rev().take(2).rev().map(String::as_str).collect();
            // The kubelet reads `$$` as `$`, so that this is what was written.
            assert_eq!(given, [flag.as_str(), "$$(LD_PRELOAD) `id` $$$$(PORT); --model x"]);
        }
    }
}

#[test]
fn dangerous_variables_are_refused_however_they_are_written() {
    for (engine, _) in engines() {
        for name in VARIABLES.split_whitespace() {
            for written in [
                name.to_owned(),
                format!("{name} "),
                format!(" {name}"),
                format!("{name}=x"),
                format!("{name}\n"),
                format!("{name}\0"),
            ] {
                let found = outcome(&engine, &[], &[(&written, "/tmp/other")]);
                assert_eq!(found, Err(Reason::EnvironmentNotAllowed), "{}: {written:?}", engine.name());
            }
        }
        for own in engine
            .spec()
            .env
            .iter()
            .map(|variable| &variable.name)
            .chain(engine.spec().writable.iter().filter_map(|w| w.env.as_ref()))
        {
            assert_eq!(outcome(&engine, &[], &[(own, "x")]), Err(Reason::EnvironmentNotAllowed), "{}: {own}", engine.name());
        }
        for name in &engine.spec().user.env {
            assert!(outcome(&engine, &[], &[(name, "1")]).is_ok(), "{}: {name}", engine.name());
            assert!(outcome(&engine, &[], &[(&name.to_lowercase(), "1")]).is_err(), "{}: {name}", engine.name());
        }
    }
}

#[test]
fn no_engine_lists_a_flag_that_it_sets_itself() {
    for (engine, _) in engines() {
        let user = &engine.spec().user;
        for flag in user.args.iter().chain(&user.switches) {
            assert!(!engine.args.iter().any(|template| template.flag() == Some(flag)), "{}: {flag}", engine.name());
        }
    }
}
