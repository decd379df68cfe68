//! From AWS's names to Rust's.

/// `taskARNs` → `task_arns`, `IPv6Address` → `i_pv6_address`, `type` → `r#type`.
pub fn field(name: &str) -> String {
    let snake = snake_case(name);
    match snake.as_str() {
        "self" | "super" | "crate" => format!("{snake}_"),
        "abstract" | "as" | "async" | "await" | "become" | "box" | "break" | "const" | "continue" | "do"
        | "dyn" | "else" | "enum" | "extern" | "false" | "final" | "fn" | "for" | "gen" | "if" | "impl"
        | "in" | "let" | "loop" | "macro" | "match" | "mod" | "move" | "mut" | "override" | "priv"
        | "pub" | "ref" | "return" | "static" | "struct" | "trait" | "true" | "try" | "type" | "typeof"
        | "unsafe" | "unsized" | "use" | "virtual" | "where" | "while" | "yield" => format!("r#{snake}"),
        _ => snake,
    }
}

/// `DescribeVPCEndpoints` → `describe_vpc_endpoints`.
pub fn snake_case(name: &str) -> String {
    words(name).join("_").to_lowercase()
}

/// `RunTaskRequest` → `RUN_TASK_REQUEST`.
pub fn constant(name: &str) -> String {
    let constant = words(name).join("_").to_uppercase();
    if constant.starts_with(|first: char| first.is_ascii_digit()) { format!("N{constant}") } else { constant }
}

/// The name of a structure or enum: AWS's own with a capital.
pub fn type_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for word in name.split(|char: char| !char.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        out.push_str(&capitalized(word));
    }
    // Names that the generated code uses itself.
    if matches!(
        out.as_str(),
        "Box"
            | "BTreeMap"
            | "Document"
            | "Ok"
            | "Option"
            | "Result"
            | "Self"
            | "Shape"
            | "Slot"
            | "Some"
            | "String"
            | "Structure"
            | "StructureShape"
            | "Text"
            | "Timestamp"
            | "Value"
            | "Vec"
            | "View"
    ) {
        out.push_str("Type");
    }
    out
}

/// `FARGATE_SPOT` → `FargateSpot`, `json-file` → `JsonFile`, `10.0` → `N10_0`. `Unknown` is taken by
/// the variant of values that the model does not know, so that `UNKNOWN` becomes `UnknownValue`.
pub fn variant(value: &str) -> String {
    let mut out = String::new();
    for word in value.split(|char: char| !char.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        let shouted = !word.bytes().any(|byte| byte.is_ascii_lowercase());
        let word = if shouted { word.to_lowercase() } else { word.to_owned() };
        if out.ends_with(|last: char| last.is_ascii_digit())
            && word.starts_with(|first: char| first.is_ascii_digit())
        {
            out.push('_');
        }
        out.push_str(&capitalized(&word));
    }
    match out.as_str() {
        "" => "Empty".to_owned(),
        "Unknown" => "UnknownValue".to_owned(),
        "Self" => "SelfValue".to_owned(),
        text if text.starts_with(|first: char| first.is_ascii_digit()) => format!("N{text}"),
        _ => out,
    }
}

pub fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// A word begins at a capital after a small letter or digit, and at the last capital of a run that
/// a small letter follows, unless that letter is the plural's `s` (`ARNs`).
fn words(name: &str) -> Vec<String> {
    let chars: Vec<char> = name.chars().collect();
    let mut words = vec![String::new()];
    for (index, &char) in chars.iter().enumerate() {
        if !char.is_ascii_alphanumeric() {
            words.push(String::new());
            continue;
        }
        let before = index.checked_sub(1).map(|before| chars[before]);
        let begins = char.is_ascii_uppercase()
            && match before {
                Some(before) if before.is_ascii_lowercase() || before.is_ascii_digit() => true,
                Some(before) if before.is_ascii_uppercase() => {
                    let plural = chars.get(index + 1) == Some(&'s')
                        && chars.get(index + 2).is_none_or(char::is_ascii_uppercase);
                    chars.get(index + 1).is_some_and(char::is_ascii_lowercase) && !plural
                }
                _ => false,
            };
        if begins {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(char);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_snake_case() {
        for (name, expected) in [
            ("taskDefinition", "task_definition"),
            ("taskARNs", "task_arns"),
            ("VPCZoneIdentifier", "vpc_zone_identifier"),
            ("AssumeRoleWithSAML", "assume_role_with_saml"),
            ("Ipv6CidrBlock", "ipv6_cidr_block"),
            ("s3BucketName", "s3_bucket_name"),
            ("type", "r#type"),
        ] {
            assert_eq!(field(name), expected);
        }
    }

    #[test]
    fn variants_are_pascal_case() {
        for (value, expected) in [
            ("FARGATE_SPOT", "FargateSpot"),
            ("json-file", "JsonFile"),
            ("EC2", "Ec2"),
            ("UNKNOWN", "UnknownValue"),
            ("10.0", "N10_0"),
            ("containerInsights", "ContainerInsights"),
        ] {
            assert_eq!(variant(value), expected);
        }
    }
}
