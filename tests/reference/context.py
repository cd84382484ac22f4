"""Context as it is defined: every utterance and every neighbour one by one, in NumPy."""

import numpy as np


def context(values, present, videos, speakers, before, distance=3.0, reach=256):
    """The context of each utterance as a list of numbers, None where it has no neighbour.

    Args:
        values: one vector per utterance, [N, d].
        present: whether there is one, [N].
        videos: name of each utterance's video, None where it is unknown.
        speakers: name of who speaks, None where unknown; None instead of the list where speakers do not matter.
        before: whether only the utterances before count.
        distance: over which a weight falls by a factor of e.
        reach: utterances to either side that count.
    """
    places, seen = [], {}
    for video in videos:
        places.append(seen.get(video, 0))
        seen[video] = places[-1] + 1
    result = []
    for i, video in enumerate(videos):
        near = [
            j
            for j, other in enumerate(videos)
            if j != i and video is not None and other == video and present[j] and abs(places[i] - places[j]) <= reach
        ]
        near = [j for j in near if places[j] < places[i]] if before else near
        groups = [near]
        if speakers is not None:
            known = [j for j in near if speakers[i] is not None and speakers[j] is not None]
            groups.append([j for j in known if speakers[j] == speakers[i]])
            groups.append([j for j in known if speakers[j] != speakers[i]])
        numbers = []
        for group in groups:
            for falling in (False, True):
                for column in range(values.shape[1]):
                    total = weights = 0.0
                    for j in group:
                        if np.isfinite(values[j, column]):
                            weight = np.exp(-abs(places[i] - places[j]) / distance) if falling else 1.0
                            total, weights = total + weight * values[j, column], weights + weight
                    numbers.append(0.0 if not group else total / weights if weights else np.nan)
        numbers += [float(bool(group)) for group in groups[1:]]
        result.append(numbers if near else None)
    return result
