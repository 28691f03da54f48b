{{/*
The objects are those that kustomize ships: files/ is a copy of them, made by make generate. What follows only changes them
as the values say, so that both ways of installing give the same.
*/}}

{{/* A shipped file, for the release's namespace. */}}
{{- define "pullpass.file" -}}
{{- .root.Files.Get (printf "files/%s" .file) | replace "pullpass-system" .root.Release.Namespace -}}
{{- end }}

{{/* An object with the labels that kustomize gives it, Helm's own, and the user's for all objects. */}}
{{- define "pullpass.object" -}}
{{- $labels := dict
  "app.kubernetes.io/name" "pullpass"
  "app.kubernetes.io/part-of" "pullpass"
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/version" .root.Chart.AppVersion
  "app.kubernetes.io/managed-by" .root.Release.Service
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") -}}
{{- $_ := set .object.metadata "labels" (merge $labels (.object.metadata.labels | default dict) (deepCopy (.root.Values.commonLabels | default dict))) -}}
---
{{ toYaml .object }}
{{ end }}

{{/* Every object of a shipped file, as it is. */}}
{{- define "pullpass.objects" -}}
{{- $root := .root -}}
{{- range splitList "\n---\n" (include "pullpass.file" .) }}
{{- include "pullpass.object" (dict "root" $root "object" (fromYaml .)) }}
{{- end }}
{{- end }}

{{/* Lays one map's entries over another's, which it changes; null takes an entry away. Prints nothing. */}}
{{- define "pullpass.lay" -}}
{{- $under := .under -}}
{{- range $key, $value := .over -}}
{{- if kindIs "invalid" $value }}{{ $_ := unset $under $key }}{{ else }}{{ $_ := set $under $key $value }}{{ end -}}
{{- end -}}
{{- end }}
