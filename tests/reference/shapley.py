"""The Shapley value by its definition: the mean marginal contribution over all k! orders."""

from itertools import permutations


def shapley(utility, players):
    total = dict.fromkeys(players, 0.0)
    orders = list(permutations(players))
    for order in orders:
        seen = frozenset()
        before = 0.0
        for player in order:
            seen = seen | {player}
            after = utility(seen)
            total[player] += after - before
            before = after
    return {player: value / len(orders) for player, value in total.items()}
