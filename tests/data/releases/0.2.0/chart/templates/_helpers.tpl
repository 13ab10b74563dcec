{{/* The name of everything of ours in the operator's namespace: the release's, which says "bonafide" once. */}}
{{- define "bonafide.fullname" -}}
{{- if contains "bonafide" .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-bonafide" .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "bonafide.selectorLabels" -}}
app.kubernetes.io/name: bonafide
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: manager
{{- end -}}

{{/* Not the labels of running models (bonafide.dev/…): those are the operator's alone. */}}
{{- define "bonafide.labels" -}}
{{ include "bonafide.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "bonafide.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The user name under which the API server knows the operator. */}}
{{- define "bonafide.username" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "bonafide.fullname" . }}
{{- end -}}

{{/* manager.yaml, as the binary reads it; it refuses fields that it does not know. */}}
{{- define "bonafide.config" -}}
{{- $hf := dict "endpoint" .Values.sources.hf.endpoint -}}
{{- with .Values.sources.hf.caBundle -}}
{{- if .configMap -}}
{{- $_ := set $hf "caBundleFile" "/etc/bonafide/ca/hf/ca.crt" -}}
{{- else if .pem -}}
{{- $_ := set $hf "caBundle" .pem -}}
{{- end -}}
{{- end -}}
image: {{ include "bonafide.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
policy:
  default: {{ .Values.policy.default }}
sources:
  hf:
    {{- toYaml $hf | nindent 4 }}
  mirrors: {{ .Values.sources.mirrors | default list | toJson }}
  allowedHosts: {{ .Values.sources.allowedHosts | default list | toJson }}
trustedMutators: {{ .Values.trustedMutators | default list | toJson }}
{{- end -}}
