//! The control plane dies at any moment; tasks, exit codes and output do not.

use wharf_ecs_api::{Ecs as _, types};
use wharf_engine::log::Stream;
use wharf_engine::sim::Sim;
use wharf_engine::{Engine as _, SandboxId, SandboxSpec};

use crate::records::{StopCode, TaskStatus};
use crate::testing::{World, container, context, definition, engine_id, logging, run};

#[tokio::test]
async fn a_running_task_runs_on_and_its_output_comes_once() {
    let mut world = World::started().await;
    let arn = world.run_one(logging(container("main"))).await;
    let before = world.until_status(&arn, TaskStatus::Running).await;
    let id = engine_id(&before, 0);
    let stream = format!("ecs/main/{}", before.id);
    world.sim.log(&id, Stream::Stdout, "before");
    world.eventually(|| world.logs.messages(&stream) == ["before"]).await;

    world.ecs.stop().await;
    world.sim.log(&id, Stream::Stdout, "meanwhile");
    world.rebuild();
    world.ecs.start().await.unwrap();
    world.eventually(|| world.logs.messages(&stream) == ["before", "meanwhile"]).await;
    world.sim.log(&id, Stream::Stdout, "after");
    world.eventually(|| world.logs.messages(&stream).len() == 3).await;
    let after = world.task(&arn).unwrap();
    assert_eq!(*after, *before, "nothing changed");
    assert_eq!(*world.interfaces.made.lock(), 1);

    world.sim.exit(&id, 0);
    world.until_status(&arn, TaskStatus::Stopped).await;
    assert_eq!(world.sim.list().await.unwrap(), []);
}

#[tokio::test]
async fn an_exit_that_happened_meanwhile_is_written_down() {
    let mut world = World::started().await;
    let arn = world.run_one(logging(container("main"))).await;
    let task = world.until_status(&arn, TaskStatus::Running).await;
    world.ecs.stop().await;
    world.sim.log(&engine_id(&task, 0), Stream::Stderr, "last words");
    world.sim.exit(&engine_id(&task, 0), 42);
    world.rebuild();
    world.ecs.start().await.unwrap();
    let task = world.until_status(&arn, TaskStatus::Stopped).await;
    assert_eq!(task.containers[0].exit_code, Some(42));
    assert_eq!(task.stop.as_ref().unwrap().code, StopCode::EssentialContainerExited);
    assert_eq!(world.logs.messages(&format!("ecs/main/{}", task.id)), ["last words"]);
}

#[tokio::test]
async fn a_task_that_was_only_accepted_is_started_once() {
    let mut world = World::at_rest();
    let arn = world.run_one(container("main")).await;
    assert_eq!(world.task(&arn).unwrap().status, TaskStatus::Provisioning);
    world.rebuild();
    world.ecs.start().await.unwrap();
    world.until_status(&arn, TaskStatus::Running).await;
    world.restart().await;
    world.restart().await;
    assert_eq!(world.sim.list().await.unwrap().len(), 1);
    assert_eq!(world.task(&arn).unwrap().status, TaskStatus::Running);
}

#[tokio::test]
async fn what_nobody_owns_is_removed_and_what_others_own_is_not() {
    let mut world = World::started().await;
    let sandbox = |id: &str, owner: &str| SandboxSpec {
        hostname: "x".into(),
        labels: vec![("owner".into(), owner.into())],
        ..SandboxSpec::new(SandboxId::new(id).unwrap())
    };
    world.sim.create_sandbox(sandbox("orphan", "ecs")).await.unwrap();
    world.sim.create_sandbox(sandbox("function", "lambda")).await.unwrap();
    world.restart().await;
    let left: Vec<_> = world.sim.list().await.unwrap().into_iter().map(|of| of.id.to_string()).collect();
    assert_eq!(left, ["function"]);
}

#[tokio::test]
async fn a_task_that_the_host_lost_is_not_said_to_run() {
    let mut world = World::started().await;
    let arn = world.run_one(logging(container("main"))).await;
    world.until_status(&arn, TaskStatus::Running).await;
    world.ecs.stop().await;
    // The machine was switched off and on.
    world.sim = Sim::new(world.clock.clone());
    world.rebuild();
    world.ecs.start().await.unwrap();
    let task = world.until_status(&arn, TaskStatus::Stopped).await;
    assert_eq!(task.containers[0].exit_code, None);
    assert!(task.containers[0].reason.as_deref().unwrap().contains("gone when the host started"));
    assert!(world.interfaces.by_owner.lock().is_empty());
}

#[tokio::test]
async fn lost_events_are_made_up_for() {
    let world = World::started().await;
    let arn = world.run_one(container("main")).await;
    let task = world.until_status(&arn, TaskStatus::Running).await;
    world.sim.lose_events(1);
    world.sim.exit(&engine_id(&task, 0), 5);
    world.ecs.platform().catch_up().await;
    let task = world.until_status(&arn, TaskStatus::Stopped).await;
    assert_eq!(task.containers[0].exit_code, Some(5));
}

#[tokio::test]
async fn a_stop_that_was_accepted_is_carried_out_after_the_restart() {
    let mut world = World::started().await;
    let arn = world.run_one(container("main")).await;
    world.until_status(&arn, TaskStatus::Running).await;
    world.ecs.stop().await;
    world.rebuild();
    let input = types::StopTaskRequest { task: arn.clone(), ..Default::default() };
    world.ecs.stop_task(&context(), input).await.unwrap();
    world.rebuild();
    world.ecs.start().await.unwrap();
    let task = world.until_status(&arn, TaskStatus::Stopped).await;
    assert_eq!(task.stop.as_ref().unwrap().code, StopCode::UserInitiated);
}

#[tokio::test]
async fn a_token_is_known_after_a_restart() {
    let mut world = World::started().await;
    let definition = world.register(definition("web", vec![container("main")])).await;
    let input = types::RunTaskRequest { client_token: Some("once".into()), ..run(&definition) };
    let first = world.ecs.run_task(&context(), input.clone()).await.unwrap().tasks.unwrap();
    world.restart().await;
    let again = world.ecs.run_task(&context(), input).await.unwrap().tasks.unwrap();
    assert_eq!(first[0].task_arn, again[0].task_arn);
    assert_eq!(world.ecs.tasks().len(), 1);
}
