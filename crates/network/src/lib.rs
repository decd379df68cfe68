//! VPCs, subnets and ENIs as namespaces, bridges and veths
