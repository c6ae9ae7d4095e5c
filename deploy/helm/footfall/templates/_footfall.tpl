{{- define "footfall.name" -}}
{{- printf "%s-%s" .root.Release.Name .name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "footfall.labels" -}}
app.kubernetes.io/name: footfall
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{- define "footfall.metadata" -}}
name: {{ include "footfall.name" . }}
labels:
  {{- include "footfall.labels" . | nindent 2 }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .root.Release.Service }}
  helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "footfall.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{- end -}}
{{- end -}}
{{- end -}}

{{/* Settings as environment variables. `settings`: maps, the later wins. */}}
{{- define "footfall.environment" -}}
{{- $all := dict -}}
{{- range .settings }}{{ $all = mergeOverwrite $all (deepCopy .) }}{{ end -}}
{{- range $name, $value := $all }}
- name: {{ $name }}
  value: {{ ternary ($value | int64 | toString) ($value | toString) (kindIs "float64" $value) | quote }}
{{- end }}
- name: SECRETS_DIR
  value: /run/secrets/footfall
{{- end -}}

{{- define "footfall.kafka" -}}
KAFKA_BOOTSTRAP_SERVERS: {{ .bootstrapServers | quote }}
KAFKA_TOPIC: {{ .topic | quote }}
KAFKA_SECURITY_PROTOCOL: {{ .securityProtocol }}
{{- if hasPrefix "SASL" .securityProtocol }}
KAFKA_SASL_MECHANISM: {{ .saslMechanism }}
{{- end }}
{{- if .certificates.secretName }}
KAFKA_SSL_CA_FILE: /run/certificates/kafka/{{ .certificates.key }}
{{- end }}
{{- end -}}

{{- define "footfall.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "footfall.containerSecurity" -}}
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "footfall.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: secrets, mountPath: /run/secrets/footfall, readOnly: true}
{{- if and .kafka .root.Values.kafka.certificates.secretName }}
- {name: kafka-certificates, mountPath: /run/certificates/kafka, readOnly: true}
{{- end }}
{{- if .of.storage }}
- {name: data, mountPath: /data}
{{- end }}
{{- with .root.Values.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "footfall.volumes" -}}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
- name: secrets
  secret: {secretName: {{ .of.secretName | quote }}, defaultMode: 0440}
{{- if and .kafka .root.Values.kafka.certificates.secretName }}
- name: kafka-certificates
  secret: {secretName: {{ .root.Values.kafka.certificates.secretName | quote }}, defaultMode: 0440}
{{- end }}
{{- with .root.Values.volumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "footfall.scheduling" -}}
{{- with .of.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "footfall.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* A process that serves. Arguments: root, name, arguments (of the command; default: the name), of (its values), port, portSetting, kafka, settings, fields (of the pod). */}}
{{- define "footfall.podTemplate" -}}
metadata:
  labels:
    {{- include "footfall.labels" . | nindent 4 }}
  {{- with .root.Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 30
  securityContext:
    {{- include "footfall.podSecurity" . | nindent 4 }}
  {{- include "footfall.pullSecrets" .root | nindent 2 }}
  {{- include "footfall.scheduling" . | nindent 2 }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "footfall.labels" . | nindent 10 }}
  containers:
    - name: footfall
      image: {{ include "footfall.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: {{ .arguments | default (list .name) | toJson }}
      env:
        {{- include "footfall.environment" . | nindent 8 }}
        {{- with .fields }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - {name: http, containerPort: {{ .port }}}
      # A process that waits for Kafka or PostgreSQL does so for 60 s (STARTUP_TIMEOUT_MS), then it ends and says why.
      startupProbe:
        httpGet: {path: /health/live, port: http, scheme: {{ .root.Values.scheme }}}
        periodSeconds: 2
        timeoutSeconds: 3
        failureThreshold: 45
      readinessProbe:
        httpGet: {path: /health/ready, port: http, scheme: {{ .root.Values.scheme }}}
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 2
      livenessProbe:
        httpGet: {path: /health/live, port: http, scheme: {{ .root.Values.scheme }}}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      {{- if .drain }}
      lifecycle:
        preStop:
          sleep: {seconds: {{ .drain }}}  # until no proxy sends requests here; then it drains within 10 s
      {{- end }}
      resources:
        {{- toYaml .of.resources | nindent 8 }}
      securityContext:
        {{- include "footfall.containerSecurity" . | nindent 8 }}
      volumeMounts:
        {{- include "footfall.mounts" . | nindent 8 }}
  volumes:
    {{- include "footfall.volumes" . | nindent 4 }}
{{- end -}}

{{- define "footfall.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "footfall.metadata" . | nindent 2 }}
spec:
  {{- if .headless }}
  clusterIP: None
  publishNotReadyAddresses: true
  {{- end }}
  selector:
    {{- include "footfall.labels" . | nindent 4 }}
  ports:
    - {name: http, port: {{ .port }}, targetPort: http}
{{- end -}}

{{- define "footfall.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "footfall.metadata" . | nindent 2 }}
spec:
  {{- toYaml .of.disruptionBudget | nindent 2 }}
  selector:
    matchLabels:
      {{- include "footfall.labels" . | nindent 6 }}
{{- end -}}

{{/* Command side and query side: without state, behind a Service. */}}
{{- define "footfall.side" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "footfall.metadata" . | nindent 2 }}
spec:
  {{- if not .of.autoscaling.enabled }}
  replicas: {{ .of.replicas }}
  {{- end }}
  strategy:
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  selector:
    matchLabels:
      {{- include "footfall.labels" . | nindent 6 }}
  template:
    {{- include "footfall.podTemplate" . | nindent 4 }}
---
{{ include "footfall.service" . }}
---
{{ include "footfall.disruptionBudget" . }}
{{- if .of.autoscaling.enabled }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "footfall.metadata" . | nindent 2 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ include "footfall.name" . }}}
  minReplicas: {{ .of.autoscaling.minReplicas }}
  maxReplicas: {{ .of.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: {{ .of.autoscaling.targetCpuPercent }}}
{{- end }}
{{- end -}}
