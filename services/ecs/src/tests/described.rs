//! Tasks that are described from what is kept say what a fresh conversion says.

use wharf_ecs_api::{Ecs as _, types};
use wharf_shape::{Service, View};

use crate::records::TaskStatus;
use crate::testing::{World, container, context};

async fn shared(service: &dyn Service, arn: &str) -> types::Task {
    let operation = service.model().operation("DescribeTasks").unwrap();
    let mut first = None;
    // The second answer is made of what the first has kept.
    for _ in 0..2 {
        let input = types::DescribeTasksRequest {
            tasks: vec![arn.to_owned()],
            ..types::DescribeTasksRequest::default()
        };
        let output = service.call(operation, &context(), Box::new(input)).await.unwrap();
        let index = output.shape().members.iter().position(|member| member.name == "tasks").unwrap();
        let View::List(tasks) = output.member(index) else { panic!("no list of tasks") };
        assert_eq!(tasks.len(), 1);
        let View::Structure(task) = tasks.item(0) else { panic!("no task") };
        let task: &dyn std::any::Any = task;
        let task = (**task.downcast_ref::<std::sync::Arc<types::Task>>().unwrap()).clone();
        assert_eq!(first.get_or_insert_with(|| task.clone()), &task);
    }
    first.unwrap()
}

async fn fresh(world: &World, arn: &str) -> types::Task {
    let input =
        types::DescribeTasksRequest { tasks: vec![arn.to_owned()], ..types::DescribeTasksRequest::default() };
    world.ecs.describe_tasks(&context(), input).await.unwrap().tasks.unwrap().remove(0)
}

#[tokio::test]
async fn a_task_that_is_described_again_is_described_as_it_is() {
    let world = World::started().await;
    let service = crate::service(world.ecs.clone());
    let arn = world.run_one(container("main")).await;
    world.until_status(&arn, TaskStatus::Running).await;
    assert_eq!(shared(&*service, &arn).await, fresh(&world, &arn).await);

    let input = types::StopTaskRequest { task: arn.clone(), ..types::StopTaskRequest::default() };
    world.ecs.stop_task(&context(), input).await.unwrap();
    world.until_status(&arn, TaskStatus::Stopped).await;
    let task = shared(&*service, &arn).await;
    assert_eq!(task.last_status.as_deref(), Some("STOPPED"));
    assert_eq!(task, fresh(&world, &arn).await);
}
