//! Generated: the ec2 API's types, shape tables, service trait and routes
