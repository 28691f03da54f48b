{{/*
Refuses fields that the definition does not have: the API server would drop them without a word, since Helm does not ask it to
be strict. Prints nothing.
*/}}
{{- define "registries.check" -}}
{{- if kindIs "map" .value -}}
{{- range $key, $value := .value -}}
{{- with $.schema.properties -}}
{{- if not (hasKey . $key) -}}
{{- fail (printf "%s.%s: there is no such field; there are %s" $.path $key (keys . | sortAlpha | join ", ")) -}}
{{- end -}}
{{- include "registries.check" (dict "path" (printf "%s.%s" $.path $key) "value" $value "schema" (get . $key)) -}}
{{- end -}}
{{- end -}}
{{- else if and (kindIs "slice" .value) .schema.items -}}
{{- range .value -}}
{{- include "registries.check" (dict "path" $.path "value" . "schema" $.schema.items) -}}
{{- end -}}
{{- end -}}
{{- end }}
