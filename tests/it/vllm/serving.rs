//! vLLM serves, ends and is started again.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{START, asked, deploy, place, ready};
use crate::e2e::{
    ending::{Answering, USER, assign_users, gone},
    place::Place,
};

/// What a process of the node is: its command line, its parent.
fn process(id: u32) -> Option<(String, u32)> {
    let line = fs::read(format!("/proc/{id}/cmdline")).ok()?;
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
    Some((String::from_utf8_lossy(&line).replace('\0', " "), parent))
}

/// The server's process of a model.
fn server(name: &str) -> u32 {
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is = |id: &u32| process(*id).is_some_and(|(line, _)| line.contains("vllm serve") && line.contains(&format!(" {name} ")));
    all.filter(is).min().unwrap_or_else(|| panic!("no vLLM serves {name}"))
}

/// The child of a child of the server that has no children: where the model is.
fn worker(server: u32) -> u32 {
    let all: Vec<u32> =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let children = |of: u32| -> Vec<u32> {
        let mine = all
            .iter()
            .copied()
            .filter(|id| process(*id).is_some_and(|(line, parent)| parent == of && !line.contains("resource_tracker")));
        mine.collect()
    };
    let grandchildren: Vec<u32> = children(server).into_iter().flat_map(children).collect();
    let told: Vec<String> = grandchildren.iter().filter_map(|id| Some(process(*id)?.0)).collect();
    assert!(!grandchildren.is_empty(), "vLLM has no worker: {told:?}");
    grandchildren[0]
}

async fn answers(pod: &Value, model: &str) {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
    let body = json!({"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8});
    let address = pod["status"]["podIP"].as_str().unwrap();
    let request = client.post(format!("http://{address}:8000/v1/chat/completions")).header("content-type", "application/json");
    let answer: Value =
        serde_json::from_str(&request.body(body.to_string()).send().await.unwrap().text().await.unwrap()).unwrap();
    assert!(answer["usage"]["completion_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{answer}");
}

async fn up(place: &Place, name: &str) -> Value {
    ready(place, name, "True", "Ready").await;
    place.pod(name).await
}

#[tokio::test]
async fn it_serves_as_any_user_finishes_what_it_answers_when_it_is_evicted_and_comes_back_when_its_worker_is_killed() {
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
    answers(&pod, "tiny").await;
    assert_eq!(pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"], true);
    let status = fs::read_to_string(format!("/proc/{}/status", server("tiny"))).unwrap();
    assert!(status.contains(&format!("Uid:\t{USER}\t{USER}")), "{status}");

    let answering = Answering::begin(&pod, "tiny", 1900).await;
    let node = pod["spec"]["nodeName"].as_str().unwrap();
    let selector = "--pod-selector=bonafide.dev/deployment=tiny";
    let arguments = ["drain", node, selector, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=590s"];
    let (took, told) = tokio::join!(answering.finish(), place.world.kubectl(&arguments));
    place.world.kubectl(&["uncordon", node]).await;
    assert!(told.contains("drained") && took > Duration::from_secs(1), "{took:?}: {told}");
    eprintln!("vllm: a request went on for {:.1} s after the eviction", took.as_secs_f64());

    let pod = up(&place, "tiny").await;
    answers(&pod, "tiny").await;
    place.kill(worker(server("tiny"))).await;
    let again = async || {
        let pod = place.pod("tiny").await;
        let engine = pod["status"]["containerStatuses"].as_array()?.iter().find(|status| status["name"] == "engine")?.clone();
        (engine["restartCount"].as_u64()? > 0).then_some(engine)
    };
    let engine = place.until(START, "the engine is started again", again).await;
    // As if all was well: who looks at exit codes only would not know.
    assert_eq!(engine["lastState"]["terminated"]["exitCode"], 0, "{engine}");
    let pod = up(&place, "tiny").await;
    answers(&pod, "tiny").await;
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
