//! Which capacity provider each of a number of tasks goes to.

use crate::records::StrategyItem;

/// The provider of each of `count` tasks: first every item's base, then by weight, so that after
/// each task the shares are as near to the weights as whole tasks allow. Ties go to the earlier item.
/// `None` when no item has a weight or a base left for a task.
pub fn distribute(items: &[StrategyItem], count: usize) -> Option<Vec<&str>> {
    let mut placed = Vec::with_capacity(count);
    for item in items {
        let room = count - placed.len();
        placed.extend(std::iter::repeat_n(item.provider.as_str(), room.min(item.base as usize)));
    }
    let mut given = vec![0_u64; items.len()];
    while placed.len() < count {
        // The item that would be the least above its share: (given + 1) / weight is smallest.
        let best = (0..items.len()).filter(|&index| items[index].weight > 0).min_by(|&a, &b| {
            let left = (given[a] + 1) * u64::from(items[b].weight);
            let right = (given[b] + 1) * u64::from(items[a].weight);
            left.cmp(&right).then(a.cmp(&b))
        })?;
        given[best] += 1;
        placed.push(items[best].provider.as_str());
    }
    Some(placed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item(provider: &str, base: u32, weight: u32) -> StrategyItem {
        StrategyItem { provider: provider.into(), weight, base }
    }

    #[test]
    fn the_base_comes_first_and_weights_share_the_rest() {
        let items = [item("FARGATE", 2, 1), item("FARGATE_SPOT", 0, 3)];
        let placed = distribute(&items, 6).unwrap();
        assert_eq!(placed.iter().filter(|name| **name == "FARGATE").count(), 3);
        assert_eq!(&placed[..2], ["FARGATE", "FARGATE"]);
        assert_eq!(distribute(&[item("FARGATE", 0, 0)], 1), None);
        assert_eq!(distribute(&[item("FARGATE", 3, 0)], 2).unwrap().len(), 2);
    }

    proptest! {
        #[test]
        fn shares_follow_the_weights(weights in proptest::collection::vec(1_u32..20, 1..4), count in 1_usize..60) {
            let items: Vec<_> = weights.iter().enumerate().map(|(n, w)| item(&n.to_string(), 0, *w)).collect();
            let placed = distribute(&items, count).unwrap();
            prop_assert_eq!(placed.len(), count);
            let total: u32 = weights.iter().sum();
            for item in &items {
                let got = placed.iter().filter(|name| **name == item.provider).count() as f64;
                let fair = count as f64 * f64::from(item.weight) / f64::from(total);
                prop_assert!((got - fair).abs() <= items.len() as f64, "{got} of {fair}");
            }
        }
    }
}
