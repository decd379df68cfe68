//! The ecs service
