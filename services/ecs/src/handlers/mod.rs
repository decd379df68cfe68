//! The operations: each checks its input, reads a snapshot or writes desired state, and answers.

mod account_setting;
mod capacity_provider;
mod cluster;
mod container_definition;
mod container_life;
mod register;
mod run_task;
mod tag;
mod task;
mod task_definition;
mod volume;

pub use container_life::ATTEMPT_PERIOD_DEFAULT;
pub use register::host_architecture;
pub use task::{describe_tasks_as, request_stop};
pub use task_definition::find as find_task_definition;

use async_trait::async_trait;
use wharf_core::{ApiError, RequestContext};
use wharf_ecs_api::types;

use crate::service::Ecs;

macro_rules! operations {
    ($($name:ident: $module:ident($request:ident) -> $response:ident;)*) => {
        #[async_trait]
        impl wharf_ecs_api::Ecs for Ecs {
            $(async fn $name(
                &self,
                context: &RequestContext,
                input: types::$request,
            ) -> Result<types::$response, ApiError> {
                $module::$name(self.platform(), context, input).await
            })*
        }
    };
}

operations! {
    create_cluster: cluster(CreateClusterRequest) -> CreateClusterResponse;
    delete_cluster: cluster(DeleteClusterRequest) -> DeleteClusterResponse;
    describe_clusters: cluster(DescribeClustersRequest) -> DescribeClustersResponse;
    list_clusters: cluster(ListClustersRequest) -> ListClustersResponse;
    update_cluster: cluster(UpdateClusterRequest) -> UpdateClusterResponse;
    update_cluster_settings: cluster(UpdateClusterSettingsRequest) -> UpdateClusterSettingsResponse;
    put_cluster_capacity_providers: capacity_provider(PutClusterCapacityProvidersRequest) -> PutClusterCapacityProvidersResponse;
    describe_capacity_providers: capacity_provider(DescribeCapacityProvidersRequest) -> DescribeCapacityProvidersResponse;
    register_task_definition: task_definition(RegisterTaskDefinitionRequest) -> RegisterTaskDefinitionResponse;
    describe_task_definition: task_definition(DescribeTaskDefinitionRequest) -> DescribeTaskDefinitionResponse;
    list_task_definitions: task_definition(ListTaskDefinitionsRequest) -> ListTaskDefinitionsResponse;
    list_task_definition_families: task_definition(ListTaskDefinitionFamiliesRequest) -> ListTaskDefinitionFamiliesResponse;
    deregister_task_definition: task_definition(DeregisterTaskDefinitionRequest) -> DeregisterTaskDefinitionResponse;
    delete_task_definitions: task_definition(DeleteTaskDefinitionsRequest) -> DeleteTaskDefinitionsResponse;
    run_task: run_task(RunTaskRequest) -> RunTaskResponse;
    stop_task: task(StopTaskRequest) -> StopTaskResponse;
    describe_tasks: task(DescribeTasksRequest) -> DescribeTasksResponse;
    list_tasks: task(ListTasksRequest) -> ListTasksResponse;
    tag_resource: tag(TagResourceRequest) -> TagResourceResponse;
    untag_resource: tag(UntagResourceRequest) -> UntagResourceResponse;
    list_tags_for_resource: tag(ListTagsForResourceRequest) -> ListTagsForResourceResponse;
    list_account_settings: account_setting(ListAccountSettingsRequest) -> ListAccountSettingsResponse;
}
