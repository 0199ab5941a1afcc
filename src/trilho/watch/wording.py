"""What people are told about a model, in English and in Brazilian Portuguese.

Each text has a key, and `say` fills its blanks. Names and numbers come from the caller, so that both languages say the
same of the same thing.
"""

from __future__ import annotations

from typing import Any, Literal

from trilho.watch import phrases

Language = Literal["en", "pt-BR"]

ENGLISH: dict[str, str] = {
    "headline.opened": "{model} version {version}: {kind}",
    "headline.confirmed": "{model} version {version}: {kind}, confirmed",
    "headline.worse": "{model} version {version}: {kind}, worse",
    "headline.crossed": "{model} version {version}: {kind}, the metric has crossed its minimum",
    "headline.reopened": "{model} version {version}: {kind}, opened again",
    "headline.acknowledged": "{model} version {version}: {kind}, taken up by {who}",
    "headline.closed": "{model}: closed, {reason}",
    "headline.held": "{model} version {version}: held",
    "headline.test": "{model}: test alert",
    "headline.digest": "{count} alerts at once, the most severe: {severity}",
    "kind.drift": "drift",
    "kind.prediction": "drift of predictions",
    "kind.quality": "data quality",
    "kind.performance": "performance",
    "severity.high": "high",
    "severity.medium": "medium",
    "severity.low": "low",
    "fact.what": "What",
    "fact.was": "Was",
    "fact.cause": "Cause",
    "fact.slices": "In",
    "fact.effect": "Effect",
    "fact.lead": "Warning lead",
    "fact.next": "Next",
    "fact.note": "Note",
    "fact.runbook": "Runbook",
    "fact.incident": "Incident",
    "fact.rollout": "Rollout",
    "what.drift": "Drift of {features}, {window}",
    "what.prediction": "Drift of the predictions, {window}",
    "what.quality": "Data quality of {features}, {window}",
    "what.performance": "{features} is worse than was allowed, {window}",
    "cause.unknown": "not known",
    "cause.distance": "{feature}: {distance} from training, {tolerance} allowed",
    "cause.inputs-drift": "inputs drift as well",
    "cause.inputs-hold": "inputs hold: the target itself may have changed",
    "cause.held": "not known: it may have learnt something, or requests reach it broken",
    "effect.performance": "predictions are worse than was allowed at release",
    "effect.unknown": "not known before labels come: the model sees data it was not trained on",
    "effect.held": "it stays {position}; version {champion} answers the others as before",
    "next.nothing": "nothing by itself yet; trilho retrain starts a retraining",
    "next.retraining": "a retraining has started; what it yields replaces this version only if the gate says pass",
    "next.held": "trilho rollout shows it; trilho rollout resume lets it go on, trilho rollback ends it",
    "next.test": "nothing, no incident is open",
    "what.held": "its predictions lie elsewhere than the champion's",
    "what.test": "a test: alerts of this model arrive here",
    "incident.severity": "{incident}, severity {severity}",
    "features.and": "{first} and {last}",
    "predictions": "predictions",
    "reason.version": "version {version} took over",
    "reason.calm": "no alarm in the {count} windows since",
    "reason.gone": "what it was about has gone",
    "reason.back": "back where training had them: {features}",
    "position.shadow": "asked unseen about {share}% of requests",
    "position.traffic": "at {share}% of traffic",
    "button.acknowledge": "Acknowledge",
    "link.acknowledge": "Acknowledge in the console",
    "link.open": "Open in the console",
    "repeat": "This may have been sent before: the sender was cut off. The id is the same.",
    "digest.more": "and {count} more, in the console",
    "chart.allowed": "allowed",
    "chart.distance": "{feature}: distance from training",
    "chart.metric": "{metric} per window",
    "chart.alarm": "alarm",
    "chart.alarms": "alarms",
    "chart.newest": "newest: {value}",
    "month": "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
}
PORTUGUESE: dict[str, str] = {
    "headline.opened": "{model} versão {version}: {kind}",
    "headline.confirmed": "{model} versão {version}: {kind}, confirmado",
    "headline.worse": "{model} versão {version}: {kind}, piorou",
    "headline.crossed": "{model} versão {version}: {kind}, a métrica cruzou o seu mínimo",
    "headline.reopened": "{model} versão {version}: {kind}, reaberto",
    "headline.acknowledged": "{model} versão {version}: {kind}, assumido por {who}",
    "headline.closed": "{model}: encerrado, {reason}",
    "headline.held": "{model} versão {version}: parada",
    "headline.test": "{model}: alerta de teste",
    "headline.digest": "{count} alertas de uma vez, o mais grave: {severity}",
    "kind.drift": "drift",
    "kind.prediction": "drift das predições",
    "kind.quality": "qualidade dos dados",
    "kind.performance": "desempenho",
    "severity.high": "alta",
    "severity.medium": "média",
    "severity.low": "baixa",
    "fact.what": "O quê",
    "fact.was": "Era",
    "fact.cause": "Causa",
    "fact.slices": "Em",
    "fact.effect": "Efeito",
    "fact.lead": "Antecedência",
    "fact.next": "Próximo passo",
    "fact.note": "Nota",
    "fact.runbook": "Procedimento",
    "fact.incident": "Incidente",
    "fact.rollout": "Rollout",
    "what.drift": "Drift de {features}, {window}",
    "what.prediction": "Drift das predições, {window}",
    "what.quality": "Qualidade dos dados de {features}, {window}",
    "what.performance": "{features} está pior do que o permitido, {window}",
    "cause.unknown": "não conhecida",
    "cause.distance": "{feature}: {distance} do treino, {tolerance} permitido",
    "cause.inputs-drift": "as entradas também mudaram",
    "cause.inputs-hold": "as entradas estão estáveis: o próprio alvo pode ter mudado",
    "cause.held": "não conhecida: ela pode ter aprendido algo, ou as requisições lhe chegam com defeito",
    "effect.performance": "as predições estão piores do que o permitido na liberação",
    "effect.unknown": "não conhecido antes dos rótulos: o modelo vê dados com os quais não foi treinado",
    "effect.held": "ela fica {position}; a versão {champion} responde as outras como antes",
    "next.nothing": "nada por si só ainda; trilho retrain começa um retreino",
    "next.retraining": "um retreino começou; o resultado só substitui esta versão se o gate disser pass",
    "next.held": "trilho rollout mostra; trilho rollout resume deixa seguir, trilho rollback encerra",
    "next.test": "nada, nenhum incidente está aberto",
    "what.held": "as suas predições ficam longe das da versão campeã",
    "what.test": "um teste: os alertas deste modelo chegam aqui",
    "incident.severity": "{incident}, gravidade {severity}",
    "features.and": "{first} e {last}",
    "predictions": "predições",
    "reason.version": "a versão {version} assumiu",
    "reason.calm": "nenhum alarme nas {count} janelas seguintes",
    "reason.gone": "o que ele apontava passou",
    "reason.back": "de volta aonde o treino os teve: {features}",
    "position.shadow": "consultada às ocultas em cerca de {share}% das requisições",
    "position.traffic": "com {share}% do tráfego",
    "button.acknowledge": "Assumir",
    "link.acknowledge": "Assumir no console",
    "link.open": "Abrir no console",
    "repeat": "Isto pode já ter sido enviado: o remetente foi interrompido. O identificador é o mesmo.",
    "digest.more": "e mais {count}, no console",
    "chart.allowed": "permitido",
    "chart.distance": "{feature}: distância do treino",
    "chart.metric": "{metric} por janela",
    "chart.alarm": "alarme",
    "chart.alarms": "alarmes",
    "chart.newest": "mais recente: {value}",
    "month": "jan fev mar abr mai jun jul ago set out nov dez",
}
CATALOGUE: dict[Language, dict[str, str]] = {
    "en": {**phrases.ENGLISH, **ENGLISH},
    "pt-BR": {**phrases.PORTUGUESE, **PORTUGUESE},
}


def say(language: Language, key: str, /, **values: Any) -> str:
    """Give the text of a key in a language, its blanks filled.

    >>> say("pt-BR", "reason.version", version=3)
    'a versão 3 assumiu'
    """
    return CATALOGUE[language][key].format(**values)


def number(language: Language, value: float, digits: int = 2) -> str:
    """Give a number with the language's decimal sign.

    >>> number("en", 1234.5), number("pt-BR", 1234.5)
    ('1,234.50', '1.234,50')
    """
    text = f"{value:,.{digits}f}"
    return text.translate(str.maketrans(",.", ".,")) if language == "pt-BR" else text
