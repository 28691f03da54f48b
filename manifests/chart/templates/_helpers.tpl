{{/*
The objects are those that kustomize ships: files/ is a copy of them, made by make generate. What follows only changes them
as the values say, so that both ways of installing give the same.
*/}}

{{/* A shipped file, for the release's namespace. */}}
{{- define "pullpass.file" -}}
{{- .root.Files.Get (printf "files/%s" .file) | replace "pullpass-system" .root.Release.Namespace -}}
{{- end }}

{{/* An object with the labels that kustomize gives it, Helm's own, and the user's for all objects. `name` is another value for the
label that pullpass' own selectors look for. */}}
{{- define "pullpass.object" -}}
{{- $labels := dict
  "app.kubernetes.io/name" (.name | default "pullpass")
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

{{/* Lays one map's entries over another's, which it changes; null removes an entry. Prints nothing. */}}
{{- define "pullpass.lay" -}}
{{- $under := .under -}}
{{- range $key, $value := .over -}}
{{- if kindIs "invalid" $value }}{{ $_ := unset $under $key }}{{ else }}{{ $_ := set $under $key $value }}{{ end -}}
{{- end -}}
{{- end }}

{{/* The image, for each container that runs it. */}}
{{- define "pullpass.image" -}}
{{- $repository := .Values.image.repository }}
{{- with (.Values.global).imageRegistry }}
{{- $parts := splitList "/" $repository }}
{{- if and (gt (len $parts) 1) (regexMatch "[.:]|^localhost$" (first $parts)) }}{{ $parts = rest $parts }}{{ end }}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) (join "/" $parts) }}
{{- end }}
{{- $repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* The pull secrets of that image, as a list under the key `secrets`. */}}
{{- define "pullpass.imagePullSecrets" -}}
{{- $secrets := .Values.imagePullSecrets }}
{{- range (.Values.global).imagePullSecrets }}
{{- $name := . }}
{{- if not (kindIs "string" .) }}{{ $name = .name }}{{ end }}
{{- $secrets = append $secrets (dict "name" $name) }}
{{- end }}
{{- dict "secrets" (uniq $secrets) | toYaml }}
{{- end }}

{{/* webhook.namespaceSelector as pullpass takes it, in one line as kubectl does. Nothing selects every namespace. */}}
{{- define "pullpass.namespaceSelector" -}}
{{- $selector := .Values.webhook.namespaceSelector | default dict }}
{{- $requirements := list }}
{{- range $key, $value := $selector.matchLabels }}{{ $requirements = append $requirements (printf "%s=%s" $key $value) }}{{ end }}
{{- range $selector.matchExpressions }}
{{- /* With one value it is an equality: the value can be empty, which is none within parentheses. */}}
{{- $one := eq (len (.values | default list)) 1 }}
{{- $value := join "," .values }}
{{- $format := get (dict "In" (ternary "%s=%s" "%s in (%s)" $one) "NotIn" (ternary "%s!=%s" "%s notin (%s)" $one)) .operator }}
{{- if $format }}{{ $requirements = append $requirements (printf $format .key $value) }}
{{- else if eq .operator "Exists" }}{{ $requirements = append $requirements .key }}
{{- else }}{{ $requirements = append $requirements (printf "!%s" .key) }}
{{- end }}
{{- end }}
{{- $text := join "," $requirements }}
{{- if gt (len $text) 4096 }}{{ fail "webhook.namespaceSelector is too long: give namespaces a label in common, and select by that" }}{{ end }}
{{- $text }}
{{- end }}
