//! What is wrong with a policy document, in AWS's words.

/// The message of `MalformedPolicyDocument`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No JSON, a key twice, an element that does not exist or has another form, too deep, too long.
    #[error("Syntax errors in policy.")]
    Syntax,
    #[error("Policy document must be version 2012-10-17 or greater.")]
    Version,
    #[error("The policy failed legacy parsing")]
    LegacyParsing,
    #[error("Statement IDs (SID) in a single policy must be unique.")]
    SidNotUnique,
    #[error(
        "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*"
    )]
    SidCharacters,
    #[error("Policy statement must contain actions.")]
    NoActions,
    #[error("Policy statement must contain resources.")]
    NoResources,
    #[error("Policy document should not specify a principal.")]
    PrincipalNotAllowed,
    #[error("Missing required field Principal")]
    NoPrincipal,
    #[error("Has prohibited field Resource")]
    ResourceNotAllowed,
    #[error("Invalid principal in policy: \"{kind}\":\"{name}\"")]
    InvalidPrincipal { kind: String, name: String },
    #[error("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")]
    NoVendor,
    #[error("Actions/Condition can contain only one colon.")]
    ManyColons,
    #[error("Vendor {0} is not valid")]
    InvalidVendor(String),
    #[error(
        "Trust Policy statement actions can only be sts:AssumeRole, sts:AssumeRoleWithSAML,  and sts:AssumeRoleWithWebIdentity"
    )]
    TrustAction,
    #[error("Resource {0} must be in ARN format or \"*\".")]
    ResourceForm(String),
    #[error("Partition \"{partition}\" is not valid for resource \"{resource}\".")]
    ResourcePartition { partition: String, resource: String },
    #[error("Resource vendor must be fully qualified and cannot contain regexes.")]
    ResourceVendor,
    #[error("IAM resource {0} cannot contain region information.")]
    IamRegion(String),
    #[error("Resource {0} can not contain region information.")]
    S3Region(String),
    #[error("IAM resource path must either be \"*\" or start with {0}.")]
    IamPath(String),
}
