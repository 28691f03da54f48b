-- The health of an AcrRegistry or AcrPullBinding in Argo CD: docs/install.md says how Argo CD gets it.
local status = obj.status or {}
if status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "pullpass has not tried this generation of the spec yet"}
end
local health = {status = "Progressing", message = "the status has no condition Ready yet"}
for _, condition in ipairs(status.conditions or {}) do
  local message = condition.reason .. ": " .. condition.message
  if condition.type == "Stalled" and condition.status == "True" then
    return {status = "Degraded", message = message}
  end
  if condition.type == "Ready" then
    health.message = message
    if condition.status == "True" then
      health.status = "Healthy"
    end
  end
end
return health
