{{/* Every ValidatingAdmissionPolicy; its binding has the same name. */}}
{{- define "bonafide.admission.names" -}}
- bonafide-pods
- bonafide-children
- bonafide-templates
- bonafide-selectors
- bonafide-bindings
- bonafide-scale
- bonafide-connect
- bonafide-records
- bonafide-deletion
{{- end -}}

{{/* The head of one policy: (dict "root" $ "name" NAME). */}}
{{- define "bonafide.admission.head" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ .name }}
  labels:
    {{- include "bonafide.labels" .root | nindent 4 }}
{{- end -}}

{{- define "bonafide.admission.binding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ .name }}
  labels:
    {{- include "bonafide.labels" .root | nindent 4 }}
spec:
  policyName: {{ .name }}
  validationActions: [Deny]
{{- end -}}

{{/*
Who asks, for what, and with which right. The administrators' permission is asked for without a namespace: a Role that
grants everything in one namespace does not contain it.
*/}}
{{- define "bonafide.admission.variables" -}}
- name: user
  expression: request.userInfo.username
- name: action
  expression: >-
    request.operation + ' ' + request.resource.resource +
    (has(request.subResource) && request.subResource != '' ? '/' + request.subResource : '')
- name: operator
  expression: variables.user == '{{ include "bonafide.username" . }}'
- name: administrator
  expression: >-
    authorizer.group('bonafide.dev').resource('modeldeployments').subresource('protection').check('administer').allowed()
- name: privileged
  expression: variables.operator || variables.administrator
- name: name
  expression: >-
    object != null && has(object.metadata) && has(object.metadata.name) ? object.metadata.name :
    (has(request.name) ? request.name : '')
- name: where
  expression: >-
    variables.action + ' ' + variables.name + (has(request.namespace) ? ' in ' + request.namespace : '')
- name: who
  expression: >-
    'Administrators need the permission in ClusterRole bonafide-administrator. (You are ' + variables.user + '.)'
{{- end -}}

{{/*
Kubernetes' own controllers, from the variable `allowed`: user name to actions. A controller manager that runs without a
ServiceAccount for each controller acts as all of them.
*/}}
{{- define "bonafide.admission.kubernetes" -}}
- name: kubernetes
  expression: >-
    (variables.user in variables.allowed && variables.action in variables.allowed[variables.user]) ||
    (variables.user == 'system:kube-controller-manager' && variables.allowed.exists(u,
    u.startsWith('system:serviceaccount:kube-system:') && variables.action in variables.allowed[u]))
{{- end -}}

{{/* Labels of ours on object or oldObject, or a name of ours outside the operator's own namespace. */}}
{{- define "bonafide.admission.labelled" -}}
has(o.metadata.labels) && o.metadata.labels.exists(k, k.startsWith('bonafide.dev/'))
{{- end -}}

{{- define "bonafide.admission.named" -}}
request.namespace != '{{ .Release.Namespace }}' && has(o.metadata.name) && o.metadata.name.startsWith('bonafide-')
{{- end -}}

{{- define "bonafide.admission.kept" -}}
messageExpression: >-
  variables.where + ': labels "bonafide.dev/..." and names "bonafide-..." are kept for what Bonafide runs.
  Change the ModelDeployment instead, or choose another label and name. ' + variables.who
reason: Forbidden
{{- end -}}
