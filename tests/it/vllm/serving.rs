//! vLLM serves, ends and is started again.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{START, asked, deploy, place, processes, ready};
use crate::e2e::{
    ending::{Answering, USER, assign_users, gone},
    place::Place,
};

/// What a server answers to a short request: the status, and the body; 0 when there is no answer.
async fn asks(address: &str, model: &str) -> (u16, Value) {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
    let body = json!({"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8});
    let request = client.post(format!("http://{address}/v1/chat/completions")).header("content-type", "application/json");
    let Ok(answer) = request.body(body.to_string()).send().await else { return (0, Value::Null) };
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap_or_default()).unwrap_or_default())
}

fn address(pod: &Value) -> String {
    format!("{}:8000", pod["status"]["podIP"].as_str().unwrap())
}

/// The pod, once it is ready and answers.
async fn up(place: &Place, name: &str) -> Value {
    ready(place, name, "True", "Ready").await.unwrap();
    let pod = place.pod(name).await;
    let (status, answer) = asks(&address(&pod), name).await;
    assert!(status == 200 && answer["usage"]["completion_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{answer}");
    pod
}

/// Kills a process of the engine, and waits until it was said and the engine serves again.
async fn comes_back(place: &Place, name: &str, process: u32, said: (&str, &str), times: u64) {
    let began = Instant::now();
    place.kill(process).await;
    let message = ready(place, name, "False", said.0).await.unwrap();
    eprintln!("vllm: {}: {} after {:.1} s: {message}", said.1, said.0, began.elapsed().as_secs_f64());
    assert!(message.contains(said.1) && message.contains("also has when it broke down"), "{message}");
    let again = async || {
        let pod = place.pod(name).await;
        let engine = pod["status"]["containerStatuses"].as_array()?.iter().find(|status| status["name"] == "engine")?.clone();
        (engine["restartCount"].as_u64()? == times).then_some(engine)
    };
    let engine = place.until(START, "the engine is started again", again).await;
    // As if all was well: who looks at exit codes only would not know.
    assert_eq!(engine["lastState"]["terminated"]["exitCode"], 0, "{engine}");
    up(place, name).await;
}

#[tokio::test]
async fn it_serves_as_any_user_finishes_what_it_answers_when_it_is_to_go_and_comes_back_when_a_part_of_it_is_killed() {
    if !asked() {
        return;
    }
    let place = place("vllm-serves").await;
    assign_users(&place).await;
    let began = Instant::now();
    let spec = json!({"pod": {"user": "Assigned"}, "engine": {"contextLength": 2048}, "rollout": {"drain": "10m"}});
    deploy(&place, "tiny", &spec, |_| {}).await;
    let pod = up(&place, "tiny").await;
    eprintln!("vllm: apply → Ready: {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"], true);
    let status = fs::read_to_string(format!("/proc/{}/status", processes::server("tiny").unwrap())).unwrap();
    assert!(status.contains(&format!("Uid:\t{USER}\t{USER}")), "{status}");
    let cold = place.status("tiny").await["coldStart"].take();
    eprintln!("vllm: {cold}");
    assert_eq!((&cold["slowest"], &cold["pod"]), (&json!("load"), &pod["metadata"]["name"]), "{cold}");

    let answering = Answering::begin(&pod, "tiny", 1900).await;
    let node = pod["spec"]["nodeName"].as_str().unwrap();
    let selector = "--pod-selector=bonafide.dev/deployment=tiny";
    let arguments = ["drain", node, selector, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=590s"];
    let (took, told) = tokio::join!(answering.finish(), place.world.kubectl(&arguments));
    place.world.kubectl(&["uncordon", node]).await;
    assert!(told.contains("drained") && took > Duration::from_secs(1), "{took:?}: {told}");
    eprintln!("vllm: a request went on for {:.1} s after the eviction", took.as_secs_f64());

    up(&place, "tiny").await;
    let of = |part: fn(u32) -> Option<u32>| part(processes::server("tiny").unwrap()).unwrap();
    comes_back(&place, "tiny", of(processes::worker), ("OutOfMemory", "VllmWorker-0 was killed"), 1).await;
    comes_back(&place, "tiny", of(processes::core), ("OutOfMemory", "engine core was killed"), 2).await;

    // Its gauges are those that the engine's data name: it goes when it has no work, long before its time is over.
    let pod = place.pod("tiny").await;
    let answering = Answering::begin(&pod, "tiny", 1900).await;
    place.change("ModelDeployment", "tiny", json!({"spec": {"replicas": 0}})).await;
    let took = answering.finish().await;
    assert!(took > Duration::from_secs(1), "{took:?}");
    let began = Instant::now();
    gone(&place, &pod, Duration::from_secs(60)).await;
    eprintln!("vllm: scaled to zero, gone {:.1} s after its last answer", began.elapsed().as_secs_f64());
}

#[tokio::test]
async fn another_gets_the_requests_of_one_that_is_out_of_time_and_says_that_it_is_healthy() {
    if !asked() {
        return;
    }
    let place = place("vllm-late").await;
    let long = |at: &std::path::Path| {
        let file = at.join("config.json");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(file, text.replace("\"max_position_embeddings\": 2048", "\"max_position_embeddings\": 65536")).unwrap();
    };
    let spec = json!({"replicas": 2, "engine": {"contextLength": 65_536}, "rollout": {"drain": "5s"}});
    deploy(&place, "late", &spec, long).await;
    ready(&place, "late", "True", "Ready").await.unwrap();
    let pod = place.of("Pod", "late").await.remove(0);
    let _answering = Answering::begin(&pod, "late", 65_000).await;
    let service = place.get("Service", "late").await["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let name = pod["metadata"]["name"].as_str().unwrap();
    place.world.kubectl(&["delete", "pod", name, "-n", &place.name, "--wait=false"]).await;
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().unwrap();
    let (began, mut lied) = (Instant::now(), 0);
    while !place.get("Pod", name).await.is_null() && began.elapsed() < Duration::from_secs(100) {
        let health = client.get(format!("http://{}/health", address(&pod))).send().await;
        let healthy = health.is_ok_and(|answer| answer.status() == 200);
        let (direct, said) = asks(&address(&pod), "late").await;
        if healthy && direct == 500 {
            if lied == 0 {
                eprintln!("vllm: healthy, and answers 500 {:.1} s after its deletion: {said}", began.elapsed().as_secs_f64());
            }
            lied += 1;
        }
        let (routed, said) = asks(&service, "late").await;
        assert_eq!(routed, 200, "{said}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    eprintln!("vllm: gone {:.1} s after its deletion, with a request in flight", began.elapsed().as_secs_f64());
    assert!(lied > 0, "it was never healthy with an answer of 500: nothing was shown");
    assert!(place.get("Pod", name).await.is_null());
}

#[tokio::test]
async fn it_ends_soon_when_it_is_deleted_while_it_loads() {
    if !asked() {
        return;
    }
    let place = place("vllm-loads").await;
    for (name, after) in [("imports", 2), ("starts", 20)] {
        deploy(&place, name, &json!({}), |_| {}).await;
        let running = async || {
            let pod = place.of("Pod", name).await.into_iter().next()?;
            let statuses = pod["status"]["containerStatuses"].as_array()?;
            statuses.iter().any(|status| status["state"]["running"].is_object()).then_some(pod)
        };
        let pod = place.until(START, "the engine's container runs", running).await;
        tokio::time::sleep(Duration::from_secs(after)).await;
        let began = Instant::now();
        place.world.kubectl(&["delete", "mdep", name, "-n", &place.name]).await;
        gone(&place, &pod, Duration::from_secs(100)).await;
        eprintln!("vllm: deleted {after} s after its start, gone after {:.1} s", began.elapsed().as_secs_f64());
    }
}
