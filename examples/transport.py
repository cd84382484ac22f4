"""Entropic optimal transport alone: a plan between two small sets, and its gradient."""

import torch

from pase_msa import entropic_plan

torch.manual_seed(0)
source = torch.randn(5, 3)
order = torch.tensor([3, 0, 4, 1, 2])
target = source[order] + 0.1 * torch.randn(5, 3)  # the same points in another order

cost = (source.unsqueeze(1) - target.unsqueeze(0)).square().sum(-1)
result = entropic_plan(cost, regularization=0.05)
print(f"converged: {result.converged}, {result.iterations} Newton steps")
print("plan (rows and columns sum to 1):")
print((result.plan * 100).round() / 100)
print("the plan couples the targets with:", result.plan.argmax(0).tolist(), "- they were made from", order.tolist())

# Gradients pass through: move points until each is coupled to the target of its own number.
points = torch.nn.Parameter(torch.randn(5, 3))
optimizer = torch.optim.Adam([points], lr=0.1)
for step in range(61):
    cost = (points.unsqueeze(1) - target.unsqueeze(0)).square().sum(-1)
    plan = entropic_plan(cost, regularization=0.5).plan
    loss = (plan - torch.eye(5)).square().sum()
    if step % 20 == 0:
        print(f"step {step:2d}: mass on the diagonal {plan.diagonal().mean().item():.3f}")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
