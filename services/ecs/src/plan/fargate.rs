//! Which sizes Fargate has.
//!
//! Amazon ECS Developer Guide, "Task CPU and memory" of task definition parameters for Fargate.

/// Sizes in CPU units and MiB: for each CPU value the least memory, the most, and the step.
const SIZES: [(u32, u32, u32, u32); 7] = [
    (256, 512, 2048, 512),
    (512, 1024, 4096, 1024),
    (1024, 2048, 8192, 1024),
    (2048, 4096, 16384, 1024),
    (4096, 8192, 30720, 1024),
    (8192, 16384, 61440, 4096),
    (16384, 32768, 122_880, 8192),
];

/// Whether Fargate has a task size of this many CPU units and MiB.
pub fn has_size(cpu: u32, memory_mib: u32) -> bool {
    // 256 CPU units go with 512, 1,024 and 2,048 MiB, not with 1,536.
    if (cpu, memory_mib) == (256, 1536) {
        return false;
    }
    SIZES.iter().any(|&(of, min, max, step)| {
        of == cpu && (min..=max).contains(&memory_mib) && (memory_mib - min).is_multiple_of(step)
    })
}

/// CPU units from `256`, `0.25 vCPU` or `1 vcpu`.
pub fn parse_cpu(text: &str) -> Option<u32> {
    parse_size(text, "vcpu")
}

/// MiB from `512`, `1 GB` or `0.5gb`.
pub fn parse_memory(text: &str) -> Option<u32> {
    parse_size(text, "gb")
}

/// A whole number of units, or a decimal number of 1,024 units with `suffix`.
fn parse_size(text: &str, suffix: &str) -> Option<u32> {
    let lower = text.trim().to_ascii_lowercase();
    let Some(number) = lower.strip_suffix(suffix) else {
        return if lower.bytes().all(|byte| byte.is_ascii_digit()) { lower.parse().ok() } else { None };
    };
    let number = number.trim();
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let units = number.parse::<f64>().ok()? * 1024.0;
    // Exactly representable: at most a few thousand, in steps of 1/1024.
    (units.fract() == 0.0 && units <= f64::from(u32::MAX)).then_some(units as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table_has_the_sizes_of_the_guide_and_no_others() {
        for (cpu, memory) in [(256, 512), (256, 1024), (256, 2048), (512, 4096), (1024, 3072), (4096, 30720)]
        {
            assert!(has_size(cpu, memory), "{cpu} {memory}");
        }
        for (cpu, memory) in [(8192, 20480), (16384, 122_880), (16384, 40960)] {
            assert!(has_size(cpu, memory), "{cpu} {memory}");
        }
        for (cpu, memory) in [
            (256, 256),
            (256, 1536),
            (256, 4096),
            (512, 512),
            (300, 1024),
            (8192, 17408),
            (0, 0),
            (4096, 31744),
        ] {
            assert!(!has_size(cpu, memory), "{cpu} {memory}");
        }
    }

    #[test]
    fn sizes_may_be_written_with_units() {
        assert_eq!(parse_cpu("256"), Some(256));
        assert_eq!(parse_cpu(".25 vCPU"), Some(256));
        assert_eq!(parse_cpu("1vcpu"), Some(1024));
        assert_eq!(parse_memory("0.5 GB"), Some(512));
        assert_eq!(parse_memory("30GB"), Some(30720));
        for bad in ["", "vcpu", "-1", "1e3", "0.3 vCPU", "1 GB ", "99999999999", "1..5 gb"] {
            assert_eq!(parse_cpu(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in ".{0,24}") {
            let _ = (parse_cpu(&text), parse_memory(&text));
        }
    }
}
