"""Spanish."""

from communicator_pipeline.analysis.lexicon.entry import Lexicon

LEXICON = Lexicon(
    language="es",
    function_words=(
        "de la que el en y a los se del las un por con no una su para es al lo como más mas pero "
        "sus le ya o este sí si porque esta entre cuando muy sin sobre también me hasta hay donde "
        "quien desde todo nos durante todos uno les ni contra otros ese eso ante ellos e esto mí "
        "antes algunos qué unos yo otro otras otra él tanto esa estos mucho quienes nada muchos "
        "cual poco ella estar estas algunas algo nosotros mi mis tú te ti tu tus hola gracias "
        "favor buenos días mañana hoy puedes puede podrías podría quiero necesito tengo tienes "
        "está están estoy eres soy somos bien vale ahora aquí allí gente cómo cuándo dónde quién "
        "alguien nadie sabes sabe hacer voy vamos ver jaja creo así pues entonces buenas noches "
        "viernes lunes gusta enviar mandar reunión ayer luego mismo"
    ),
    greetings=(
        "^hola | buenos días | buen día | buenas tardes | buenas noches | ^buenas | estimad* | "
        "querid* | ^hey | ^oye | qué tal"
    ),
    thanks="gracias | muchas gracias | mil gracias | te agradezco | le agradezco | se agradece",
    solved=(
        "resuelto | solucionado | ya funciona | ya está | ya quedó | olvídalo | "
        "ya no hace falta | ya lo encontré | lo encontré | ya lo tengo | arreglado | no importa | "
        "todo en orden | ya lo resolví | ya va bien"
    ),
    fine=(
        "ok | vale | de acuerdo | perfecto | genial | entendido | sí | claro | bueno | listo | "
        "buenísimo | hecho | sin problema | no hay problema | hasta luego | adiós | "
        "hasta mañana | felicidades | jaja* | estupendo | dale | excelente"
    ),
    question_words=(
        "^qué | ^quién | ^quiénes | ^cuándo | ^cuando | ^dónde | ^donde | ^por qué | ^cómo | "
        "^cuál | ^cuáles | ^cuánto* | ^cuánta* | ^hay alguien | ^alguien sabe | ^alguien | "
        "^sabes | ^saben | ^tienes | ^tienen | ^estás | ^has | ^vas a | ^vamos a | ^debo | "
        "^se puede | ^puedo | ^podemos | ^me puedes | ^a qué hora | ^para cuándo | quería saber | "
        "me pregunto | quería preguntar | ^vienes | ^ya tienes | ^ya está | ^es posible | "
        "^quieres"
    ),
    asks=(
        "puedes | podrías | puede usted | podría | podrían | pueden | me puedes | me podrías | "
        "por favor | porfa | porfavor | avísame | avísenme | avíseme | dime | dígame | llámame | "
        "llámeme | envíame | envíeme | mándame | mándeme | ayúdame | ayúdenme | necesito que | "
        "necesitamos que | necesito tu | necesito su | necesito ayuda | qué opinas | "
        "qué te parece | qué les parece | qué piensas | quedo a la espera | espero tu respuesta | "
        "espero su respuesta | estoy esperando | te importaría | le importaría | "
        "échale un vistazo | revisa | ^revisa* | ^envía* | ^manda | ^confirma* | ^dile | "
        "^recuerda | no olvides | tu opinión | su aprobación | tu aprobación | tu visto bueno | "
        "te paso por si | ^mira | ^pásame | pásame | respóndeme | me ayudas | me pasas | "
        "me envías | me mandas | me dices | me confirmas | me avisas"
    ),
    room=(
        "alguien | alguno | alguna persona | todos | chicos | equipo | gente | quién puede | "
        "quién sabe | a todos"
    ),
    not_an_ask=(
        "para tu información | para su información | ten en cuenta | tengan en cuenta | "
        "no hace falta responder | no es necesario responder | no responder | no se requiere | "
        "si tienes alguna pregunta | si tiene alguna pregunta | cualquier duda | haz clic | "
        "qué bueno | qué bien | qué lindo | qué bonito | qué alegría | favor de no responder | "
        "sin acción"
    ),
    urgent=(
        "urgente | urgentemente | cuanto antes | lo antes posible | ya mismo | ahora mismo | "
        "inmediatamente | de inmediato | emergencia | crítico | asap | fecha límite"
    ),
    due=(
        "antes de | antes del | hasta | para | hasta el | para el | a más tardar | "
        "a más tardar el | fecha límite | vence | vence el | plazo | como máximo | antes de las"
    ),
    due_after="a más tardar | como máximo",
    weekdays=(
        "lunes",
        "martes",
        "miércoles",
        "jueves",
        "viernes",
        "sábado",
        "domingo",
    ),
    days={
        0: "hoy | esta noche | esta tarde",
        1: "mañana",
        2: "pasado mañana",
        7: "la próxima semana | la semana que viene | próxima semana",
    },
    end_of_week="fin de semana | esta semana | final de la semana",
    end_of_day="fin del día | final del día | final de la jornada",
    months=(
        "enero",
        "febrero",
        "marzo",
        "abril",
        "mayo",
        "junio",
        "julio",
        "agosto",
        "septiembre | setiembre",
        "octubre",
        "noviembre",
        "diciembre",
    ),
    at_time="a las | las | a la",
    positive=(
        "genial | bueno | buena | buenísimo | excelente | perfecto | gracias | feliz | encanta | "
        "encantó | maravilloso | estupendo | contento | contenta | alegra | lindo | bonito | "
        "felicidades | increíble | fantástico | gusta"
    ),
    negative=(
        "mal | malo | mala | roto | rota | error | problema | problemas | falla | fallo | lento | "
        "tarde | retraso | falta | triste | lamentablemente | decepcion* | queja | molesto | "
        "molesta | difícil | preocupad* | perdido | peor | lástima | equivocado"
    ),
    angry=(
        "furios* | enojad* | enfadad* | inaceptable | pésimo | pésima | horrible | terrible | "
        "vergüenza | ridículo | mierda | odio | estafa | hart* de | abogado | nunca más | "
        "basura | indignante | ladrones | inútil* | fatal"
    ),
    negations="no | nunca | jamás | sin | ni | tampoco | nada",
    injection=(
        "ignora las instrucciones anteriores | ignora todas las instrucciones | "
        "ignore las instrucciones anteriores | ignora lo anterior y | ignora tus instrucciones | "
        "olvida tus instrucciones | olvida todas las instrucciones | "
        "olvida las instrucciones anteriores | tu prompt del sistema | revela tu prompt | "
        "nota para el asistente | nota para la ia | mensaje para la ia | "
        "mensaje para el asistente | instrucciones para el asistente | instrucciones para la ia | "
        "si eres una ia | como asistente debes | como asistente de ia | asistente aprueba | "
        "asistente debe aprobar"
    ),
    commits=(
        "he enviado | te envié | te lo envié | ya lo envié | ya está | voy a | lo haré | "
        "te mando | te envío | enviaré | ^hecho | ^listo | ^enviado | adjunto | hemos enviado | "
        "me encargo | lo hice | aprobado | te llamo | ya lo | estoy en | he hecho | lo hago | "
        "me va bien | me viene bien | nos vemos | lo he | lo hemos"
    ),
    topics={
        "question": (
            "alguien tiene | alguien sabe | quién tiene | quién sabe | cuál es la diferencia | "
            "diferencia entre | sabes dónde | sabes si | saben si | cómo puedo | cómo se | "
            "qué es | dónde está | dónde puedo | una pregunta | una duda | tengo una duda | "
            "por qué | cuál es | quién es | qué significa | es posible | se puede | "
            "para qué sirve | quería saber"
        ),
        "request": (
            "recuérdame | apúntame | firma | traducir | traduce | cubrir | cúbreme | "
            "ayúdame con | préstame | transferir | rellenar | votar | comprar más | trae | "
            "puedes traer | necesito | me puedes | porfa | envíame | mándame | necesito que | "
            "necesito tu | revisar | aprobar | tu aprobación | me ayudas | me envías | pásame | "
            "me pasas | échale un vistazo | firmar | reenviar | visto bueno | me mandas | "
            "me prestas | me das | me dejas | podría tener | podemos tener | hace falta que | "
            "necesitamos | falta tu | faltan tus | quién puede | quién trae | quién se encarga | "
            "buscamos voluntarios | estaría bien que | no te olvides | podemos usar | me dejarías"
        ),
        "scheduling": (
            "cuándo nos | cuándo podemos | cuándo vienes | paso a buscar | te recojo | pásate | "
            "vienes | venís | qué día | turno | turnos | cambiar el turno | qué tal el | "
            "reservar | confirmar asistencia | comemos | para comer | cenamos | para cenar | "
            "tomamos un café | desayun* | reunión | reunirnos | cita | agenda | calendario | "
            "agendar | quedamos | a qué hora | disponible | disponibilidad | horario | aplazar | "
            "posponer | mover la | te viene bien | te va bien | le viene bien | tienes tiempo | "
            "almuerzo | almorzar | videollamada | estás libre | vernos | puedo pasar | "
            "puedo ir | puedes venir | podéis venir | puedes pasar | qué días | "
            "mover la llamada | quién se apunta | día libre | quién tiene tiempo | quién viene | "
            "no llego | llego tarde | nos vemos el | me apunto | me viene mejor"
        ),
        "incident": (
            "accidente | incendio | fuego | fuga | inundación | apagón | corte de luz | robado | "
            "robo | herido | avería | averió | pinchazo | evacua* | alarma | caída | caído | "
            "se cayó | está caído | fuera de servicio | incidente | incidencia grave | alerta | "
            "servidor caído | no responde | pérdida de datos | tasa de errores | de guardia | "
            "interrupción | errores 500 | inaccesible | brecha | se ha caído"
        ),
        "sales": (
            "cuestan | por unidad | al por mayor | vender | venta | tarifa | comisión | "
            "patrocin* | al mes | en venta | colaboración | iva | anticipo | pago a plazos | "
            "precio | precios | presupuesto | cotización | descuento | contrato | comprar | "
            "compra | oferta comercial | licencia* | demostración | demo | cuánto cuesta | "
            "cuesta | pedido de | tarifas | propuesta | renovación | plan empresarial | "
            "proveedor | unidades | vendéis | venden ustedes | vendes | distribuidor* | "
            "pedido mínimo | queremos comprar | me interesa comprar | quiero comprar | "
            "quisiera comprar | hacéis envíos | enviáis a | reservar uno | dónde puedo comprar"
        ),
        "support": (
            "devolver | reemplazo | reparar | reparación | no enciende | no arranca | perdí mi | "
            "no encuentro mi | dejó de funcionar | no se abre | talla equivocada | "
            "atención al cliente | no funciona | no me funciona | no puedo entrar | "
            "no puedo acceder | no me deja | mensaje de error | mi pedido | mi cuenta | "
            "contraseña | reembolso | devolución | ayuda con | problema con | se cuelga | "
            "no carga | no ha llegado | no llegó | dañado | garantía | instalar | "
            "iniciar sesión | bloquead* | da error | se cierra | roto | soporte técnico | "
            "defectuos* | rayad* | agrietad* | hace ruido | vuelve a fallar | se ha soltado | "
            "reclamación | sigo esperando | nadie me responde | nadie responde | no carga bien"
        ),
        "fyi": (
            "fuera de la oficina | de vacaciones hasta | nueva norma | desde ahora | "
            "desde el lunes | aquí están | aquí está | fotos de | se pospone | resultados | "
            "disponible ya | ya subí | he subido | subí los | he actualizado | actualicé | "
            "compartí | para tu información | para su información | les informo | te informo | "
            "os informo | aviso | anuncio | comunicado | boletín | ten en cuenta | "
            "tengan en cuenta | a partir de | acta de | resumen de | no hace falta responder | "
            "publicado | fyi | ya está disponible | recordatorio | se ha actualizado | "
            "les comento | desplegado | para que lo sepas | para que lo sepáis | está cerrado | "
            "estará cerrado | cierra por | os recuerdo | te aviso | ya ha llegado | "
            "han llegado | agotado | ya está abierto | abrimos | cerramos"
        ),
        "social": (
            "bien hecho | orgullos* | qué lindo | foto | fotos | mamá | papá | abuela | abuelo | "
            "receta | riquísimo | concierto | canción | tiempo hace | gato | perro | jardín | "
            "abrazos | gracioso | precioso | cómo fue | buen viaje | besitos | me alegro | "
            "feliz cumpleaños | cumpleaños | felicidades | cómo estás | qué tal | cómo te va | "
            "feliz navidad | feliz año | te quiero | jaja* | cerveza | bienvenid* | te extraño | "
            "película | abrazo | que te mejores | besos | buen fin de semana | la fiesta | "
            "tarta | pastel | fútbol | gol | mi mujer | mi marido | disfraz | qué bonito | "
            "qué bonita | gracias a todos | me alegro mucho | qué alegría | mucha suerte | "
            "hasta pronto | me encanta | os quiero | qué día | enhorabuena | qué risa"
        ),
        "spam": (
            "haz clic | haga clic | has ganado | ha ganado | ganador | premio | gana dinero | "
            "ganar dinero | dinero fácil | gratis | oferta limitada | solo hoy | casino | "
            "criptomonedas | bitcoin | ingresos pasivos | inversión garantizada | garantizad* | "
            "trabaja desde casa | sorteo | préstamo | tu cuenta será suspendida | "
            "verifica tu cuenta | seguidores | lotería | duplica | sin riesgo | más seguidores"
        ),
    },
    hello="Hola, {name}:",
    acknowledge={
        "": "gracias por el mensaje. Lo miro y respondo.",
        "question": "gracias por la pregunta. Lo miro y respondo.",
        "request": "gracias, he visto la petición y la voy a mirar.",
        "scheduling": "gracias por el mensaje. Miro mi agenda y respondo.",
        "incident": "gracias por avisar. Voy a mirarlo.",
        "support": "gracias por avisar y disculpas por las molestias. Voy a mirarlo.",
        "sales": "gracias por el interés. Lo miro y respondo.",
        "social": "¡gracias por el mensaje!",
    },
    answer={
        "when": "Cuándo: {gap}.",
        "how_much": "El importe: {gap}.",
        "where": "Está aquí: {gap}.",
        "who": "La persona indicada: {gap}.",
        "free": "Me viene bien: {gap}.",
    },
    gaps={
        "date": "fecha",
        "time": "hora",
        "amount": "importe",
        "number": "número",
        "link": "enlace",
        "email": "correo electrónico",
        "phone": "teléfono",
        "order": "número de pedido",
        "name": "nombre",
        "place": "lugar o enlace",
        "address": "dirección",
        "file": "archivo",
        "when": "fecha u hora",
        "how_much": "importe",
        "where": "lugar o enlace",
        "who": "nombre",
        "free": "sí, no u otra hora",
        "secret": "secreto",
    },
    asked={
        "when": "cuándo | a qué hora | qué día | para cuándo | cuánto tiempo | qué fecha",
        "how_much": "cuánto | cuántos | cuántas | cuánto cuesta | qué precio | el precio",
        "where": "dónde | el enlace | qué dirección | el link",
        "who": "quién | quiénes | a quién",
        "free": (
            "te viene bien | le viene bien | te va bien | estás libre | estás disponible | "
            "tienes tiempo | quedamos | nos vemos | podemos reunirnos | mover la | aplazar | "
            "posponer"
        ),
    },
    summaries={
        "injection": "{name} envió un mensaje con instrucciones para un asistente; no se cita.",
        "nothing": "{name} envió algo sin texto.",
        "files": "{name} envió archivos: {files}",
    },
)
